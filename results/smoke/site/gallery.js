// A picture by itself, at the size of the window; without scripts its link opens the file.
"use strict";

const large = document.getElementById("large");
for (const link of document.querySelectorAll(".pictures a"))
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const picture = link.querySelector("img");
    Object.assign(large.querySelector("img"), { src: picture.src, alt: picture.alt });
    large.querySelector("p").textContent = picture.alt;
    large.showModal();
  });
