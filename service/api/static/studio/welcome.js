// The first screen: a portrait before and after, which needs nothing of the service but its files.

import { byId } from "./dom.js";

const demo = byId("demo");
const divider = byId("demo-divider");
const amount = byId("demo-amount");

function show() {
  demo.style.setProperty("--split", `${divider.value}%`);
  demo.style.setProperty("--amount", String(Number(amount.value) / 100));
  divider.setAttribute("aria-valuetext", `${divider.value} % before`);
  const value = Number(amount.value);
  amount.style.setProperty("--start", "0");
  amount.style.setProperty("--value", String(value / 100));
  amount.setAttribute("aria-valuetext", value < 5 ? "as in the photo" : value < 60 ? "a little" : "clearly");
}

divider.addEventListener("input", show);
amount.addEventListener("input", show);
new ResizeObserver(() => demo.style.setProperty("--height", `${demo.clientHeight}px`)).observe(demo);
show();
