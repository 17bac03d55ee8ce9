// How much of a field is used: <span data-count-of="id of the field">, a textarea with a maxlength.

for (const place of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-count-of]"))) {
  const field = document.getElementById(place.dataset.countOf ?? "");
  if (!(field instanceof HTMLTextAreaElement)) continue;
  const show = () => {
    place.textContent = `${field.value.length.toLocaleString("en")} of ${field.maxLength.toLocaleString("en")} characters`;
  };
  field.addEventListener("input", show);
  show();
}
