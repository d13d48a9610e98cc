// Samples of all methods at the N of one slider, and pictures at the size of the window; without scripts the
// smallest N is shown, and a picture's link opens its file.
"use strict";

for (const section of document.querySelectorAll(".samples")) {
  const slider = section.querySelector("input"), calls = JSON.parse(slider.dataset.calls);
  slider.addEventListener("input", () => {
    const n = calls[slider.value];
    slider.setAttribute("aria-valuetext", n);
    section.querySelector("output").textContent = n;
    for (const figure of section.querySelectorAll("figure")) {
      const sheets = JSON.parse(figure.dataset.sheets), known = Object.keys(sheets).map(Number);
      // the nearest below, in words where it is another
      const own = known.findLast((k) => k <= n), image = figure.querySelector("img");
      figure.classList.toggle("none", own === undefined);
      figure.querySelector("span").textContent =
        own === undefined ? `none up to N = ${n}: it begins at ${known[0]}` : own === n ? "" : `none at N = ${n}: this is ${own}`;
      image.src = sheets[own ?? known[0]];
      image.alt = `${figure.dataset.label}, N = ${own ?? known[0]}`;
    }
  });
}

const large = document.getElementById("large");
for (const link of document.querySelectorAll(".pictures a"))
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const picture = link.querySelector("img");
    Object.assign(large.querySelector("img"), { src: picture.src, alt: picture.alt });
    large.querySelector("p").textContent = picture.alt;
    large.showModal();
  });
