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

  // Charts with too many bands to tell apart show one arm's: the chosen one's, or that of the line pointed at.
  const spreads = () => charts.forEach((chart, index) => {
    const arms = [...new Set(chart.traces.map((trace) => trace.meta?.spread).filter((arm) => arm !== undefined))];
    if (!arms.length) return;
    const place = document.getElementById(`chart-${index}`), choice = document.createElement("select");
    choice.add(new Option("none", ""));
    arms.forEach((arm, number) => choice.add(new Option(arm, number + 1)));
    const label = document.createElement("label");
    label.className = "choice";
    label.append("Band and seeds of ", choice);
    place.before(label);
    let shown = null;
    const show = (arm) => {
      if (arm === shown) return;
      shown = arm;
      const ours = chart.traces.flatMap((trace, number) => (trace.meta?.spread === undefined ? [] : [number]));
      ours.forEach((number) => { chart.traces[number].visible = chart.traces[number].meta.spread === arm; });
      Plotly.restyle(place, { visible: ours.map((number) => chart.traces[number].visible) }, ours);
    };
    const chosen = () => (choice.value === "" ? null : arms[choice.value - 1]);
    choice.addEventListener("change", () => show(chosen()));
    place.on("plotly_hover", (event) => show(event.points[0].data.meta?.arm ?? chosen()));
    place.on("plotly_unhover", () => show(chosen()));
  });

  draw();
  spreads();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
