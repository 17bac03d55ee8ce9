export default {
  // Otherwise Next.js takes the clone's package-lock.json for its own.
  turbopack: { root: import.meta.dirname },
  outputFileTracingRoot: import.meta.dirname,
};
