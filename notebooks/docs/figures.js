// Draws every figure of the page from the JSON that stands behind its place.
document.addEventListener("DOMContentLoaded", () => {
  for (const place of document.querySelectorAll("div.plot")) {
    const text = place.nextElementSibling;
    if (!text || !text.matches("script.plot-json")) continue;
    const figure = JSON.parse(text.textContent);
    const layout = Object.assign({}, figure.layout, {autosize: true});
    delete layout.width;
    const config = Object.assign({responsive: true, displaylogo: false}, figure.config, {showSendToCloud: false});
    Plotly.newPlot(place, figure.data, layout, config).then(() => {
      if (figure.frames) Plotly.addFrames(place, figure.frames);
    });
  }
});
