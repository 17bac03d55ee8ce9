/** Loading more as its place comes near. */

const MARGIN_PX = 800;

/**
 * Runs `load` when `place` comes near the visible part of `scroller`, and again for as long as it is near after that.
 * @param {HTMLElement} place hidden when there is nothing more
 * @param {HTMLElement} scroller
 * @param {() => Promise<boolean>} load gives false when it failed: then it waits until the place comes near anew
 */
export function whileNear(place, scroller, load) {
  let loading = false;
  const observer = new IntersectionObserver(
    async (entries) => {
      if (loading || !entries.at(-1)?.isIntersecting) return;
      loading = true;
      const loaded = await load();
      loading = false;
      if (!loaded) return;
      // Only a change is observed: what is still near is looked at once more.
      observer.unobserve(place);
      observer.observe(place);
    },
    { root: scroller, rootMargin: `${MARGIN_PX}px 0px` },
  );
  observer.observe(place);
}
