"use strict";
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const style = () => getComputedStyle(document.body);

  // Strings that name a style variable become its present value.
  const coloured = (value, css) => {
    if (typeof value === "string") return value.startsWith("--") ? css.getPropertyValue(value).trim() : value;
    if (Array.isArray(value)) return value.map((item) => coloured(item, css));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item, css)]));
    return value;
  };

  const axis = (own, title) => ({
    gridcolor: "--grid", zerolinecolor: "--grid", linecolor: "--rule", automargin: true, ...own,
    title: { text: title, font: { size: 12 }, standoff: 8, ...own.title },
  });

  const draw = () => {
    const css = style();
    charts.forEach((chart, index) => {
      const own = chart.layout;
      const layout = {
        margin: { l: 48, r: 12, t: 30, b: 42 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { family: css.fontFamily, size: 12, color: "--muted" }, hovermode: "x unified", showlegend: true,
        hoverlabel: { bgcolor: "--card", bordercolor: "--rule", font: { color: "--ink" } },
        legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", font: { size: 11.5 } }, bargap: 0.3, ...own,
      };
      Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key)).forEach((key) => { layout[key] = axis(layout[key], ""); });
      if (!layout.yaxis) layout.yaxis = axis({}, "");
      if (!layout.xaxis) layout.xaxis = axis({}, "step");
      Plotly.react(`chart-${index}`, coloured(chart.traces, css), coloured(layout, css),
        { responsive: true, displayModeBar: false });
    });
  };

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
