/**
 * The only way by which HTML made from a model's words reaches the page.
 *
 * What passes is a list of tags and a list of attributes; every attribute that could load, run or restyle anything is
 * missing from it. Everything else is dropped, whatever the Markdown renderer let through.
 */
import DOMPurify from "dompurify";

const TAGS = [
  ..."p br hr h3 h4 h5 h6 strong em del u s sub sup kbd mark small code pre blockquote".split(" "),
  ..."ul ol li table thead tbody tr th td a div span".split(" "),
];
const ATTRIBUTES = ["href", "align", "start", "class", "title"];
const CLASS = /^(?:language-[\w+#.-]+|math|math-display|table-scroll|task|hljs-[\w-]+|[a-z]+_{1,2})$/;

const purify = DOMPurify(window);

purify.addHook("uponSanitizeAttribute", (_, attribute) => {
  if (attribute.attrName === "class") {
    attribute.attrValue = attribute.attrValue
      .split(/\s+/)
      .filter((name) => CLASS.test(name))
      .join(" ");
    attribute.keepAttr = attribute.attrValue !== "";
  }
});
purify.addHook("afterSanitizeAttributes", (node) => {
  if (node instanceof HTMLAnchorElement) {
    node.target = "_blank";
    node.rel = "noopener noreferrer nofollow";
  }
});

/**
 * @param {string} html
 * @returns {DocumentFragment}
 */
export function sanitize(html) {
  return purify.sanitize(html, {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ATTRIBUTES,
    ALLOW_ARIA_ATTR: false,
    ALLOW_DATA_ATTR: false,
    ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
    // Else their values are held against it, too.
    ADD_URI_SAFE_ATTR: ["align", "start"],
    RETURN_DOM_FRAGMENT: true,
  });
}
