/** Turns one piece of the page into another, touching only what differs: selections and scroll positions stay. */

/**
 * Makes the children of `parent` from `first` on equal to those of `fresh`, which is used up.
 * @param {Node} parent
 * @param {ChildNode | null} first null means behind all of them
 * @param {Node} fresh
 */
export function patchChildren(parent, first, fresh) {
  let old = first;
  for (const wanted of [...fresh.childNodes]) {
    if (old === null) {
      parent.appendChild(wanted);
      continue;
    }
    const next = /** @type {ChildNode | null} */ (old.nextSibling);
    if (!old.isEqualNode(wanted) && !patchNode(old, wanted)) old.replaceWith(wanted);
    old = next;
  }
  while (old !== null) {
    const next = /** @type {ChildNode | null} */ (old.nextSibling);
    old.remove();
    old = next;
  }
}

/**
 * @param {ChildNode} old
 * @param {ChildNode} wanted
 * @returns {boolean} false when the one cannot become the other
 */
function patchNode(old, wanted) {
  if (old instanceof Text && wanted instanceof Text) {
    if (wanted.data.startsWith(old.data)) old.appendData(wanted.data.slice(old.data.length));
    else old.data = wanted.data;
    return true;
  }
  if (!(old instanceof HTMLElement) || !(wanted instanceof HTMLElement)) return false;
  if (old.localName !== wanted.localName || !sameAttributes(old, wanted)) return false;
  patchChildren(old, old.firstChild, wanted);
  return true;
}

/**
 * @param {Element} one
 * @param {Element} other
 */
function sameAttributes(one, other) {
  return (
    one.attributes.length === other.attributes.length &&
    [...one.attributes].every(({ name, value }) => other.getAttribute(name) === value)
  );
}
