/** The page's templates, and the named parts of what is on the page. */

/**
 * A copy of `<template id="name">`'s one element.
 * @param {string} name
 * @returns {HTMLElement}
 */
export function piece(name) {
  const template = document.getElementById(name);
  if (!(template instanceof HTMLTemplateElement)) throw new Error(`no template ${name}`);
  const copy = template.content.firstElementChild?.cloneNode(true);
  if (!(copy instanceof HTMLElement)) throw new Error(`template ${name} is empty`);
  return copy;
}

/**
 * The part `data-part="name"` below `root`.
 * @template {HTMLElement} [Type=HTMLElement]
 * @param {ParentNode} root
 * @param {string} name
 * @param {new () => Type} [type]
 * @returns {Type}
 */
export function part(root, name, type = /** @type {new () => Type} */ (HTMLElement)) {
  const found = root.querySelector(`[data-part="${name}"]`);
  if (!(found instanceof type)) throw new Error(`no part ${name} of type ${type.name}`);
  return found;
}

/**
 * Shows `text` in `element`, and hides the element when there is nothing to show.
 * @param {HTMLElement} element
 * @param {string} text
 */
export function showText(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = text === "";
}
