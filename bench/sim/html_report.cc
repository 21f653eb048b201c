// The HTML page. Charts are SVG made here, so that the page needs neither script nor network.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>
#include <vector>

#include "bench/sim/report.h"

namespace tandem::simulator {
namespace {

constexpr double kWidth = 860, kHeight = 300;                       // of a chart
constexpr double kLeft = 64, kRight = 14, kTop = 12, kBottom = 40;  // margins around its plot
constexpr const char* kColors[] = {"#2563eb", "#dc2626", "#059669", "#d97706",
                                   "#7c3aed", "#0891b2", "#db2777", "#65a30d",
                                   "#475569", "#b45309", "#4f46e5", "#0d9488"};

constexpr const char* kStyle = R"(
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 940px; padding: 0 1rem;
       color: #1e293b; background: #fff }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem }
p { color: #475569; margin: .2rem 0 } table { border-collapse: collapse; margin-top: 1rem }
th, td { text-align: right; padding: .25rem .55rem; border-bottom: 1px solid #e2e8f0;
         font-variant-numeric: tabular-nums } th:first-child, td:first-child { text-align: left }
svg { display: block; width: 100%; height: auto } svg text { font: 12px system-ui, sans-serif;
      fill: #475569 } .grid { stroke: #e2e8f0 } .axis { stroke: #94a3b8 }
.key span { margin-right: 1.1em; white-space: nowrap } .key i { display: inline-block; width: .8em;
      height: .8em; border-radius: 2px; margin-right: .35em }
)";

const char* ColorOf(size_t policy) { return kColors[policy % std::size(kColors)]; }

std::string Escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '"') {
      out += "&quot;";
    } else {
      out += c;
    }
  }
  return out;
}

// "90 ms", "1.5 s".
std::string Duration(double ms) {
  return ms < 1000 ? fmt::format("{:.3g} ms", ms) : fmt::format("{:.3g} s", ms / 1000);
}

// One axis: values from `low` to `high`, linear or logarithmic.
struct Axis {
  double low = 0, high = 1;
  bool log = false;
  double At(double value) const {  // 0 at low, 1 at high
    if (log) return (std::log(std::max(value, low)) - std::log(low)) / std::log(high / low);
    return (value - low) / (high - low);
  }
};

// 1, 2 or 5 times a power of ten, about a fifth of `span`.
double NiceStep(double span) {
  const double power = std::pow(10, std::floor(std::log10(span / 5)));
  const double factor = span / 5 / power;
  return power * (factor < 1.5 ? 1 : factor < 3.5 ? 2 : factor < 7.5 ? 5 : 10);
}

std::vector<double> Ticks(const Axis& axis) {
  std::vector<double> ticks;
  if (axis.log) {
    for (double p = std::pow(10, std::floor(std::log10(axis.low))); p <= axis.high; p *= 10) {
      for (const double tick : {p, 2 * p, 5 * p}) {
        if (tick >= axis.low && tick <= axis.high) ticks.push_back(tick);
      }
    }
  } else {
    const double step = NiceStep(axis.high - axis.low);
    for (double tick = axis.low; tick <= axis.high + step / 100; tick += step)
      ticks.push_back(tick);
  }
  return ticks;
}

// A chart under construction: axes first, then what is in it.
class Chart {
 public:
  using Label = std::function<std::string(double)>;

  Chart(const Axis& x, const Axis& y) : x_(x), y_(y) {}

  double X(double value) const { return kLeft + x_.At(value) * (kWidth - kLeft - kRight); }
  double Y(double value) const {
    return kHeight - kBottom - y_.At(value) * (kHeight - kTop - kBottom);
  }

  void DrawXTicks(const Label& label) {
    for (const double tick : Ticks(x_)) {
      Line(X(tick), kTop, X(tick), kHeight - kBottom, "grid");
      Text(X(tick), kHeight - kBottom + 16, "middle", label(tick));
    }
  }
  void DrawYTicks(const Label& label) {
    for (const double tick : Ticks(y_)) {
      Line(kLeft, Y(tick), kWidth - kRight, Y(tick), "grid");
      Text(kLeft - 6, Y(tick) + 4, "end", label(tick));
    }
  }
  void DrawXTitle(const std::string& title) {
    Text((kLeft + kWidth - kRight) / 2, kHeight - 6, "middle", title);
  }
  void DrawCurve(const std::vector<std::pair<double, double>>& points, const char* color,
                 double opacity) {
    svg_ +=
        fmt::format(R"(<polyline fill="none" stroke="{}" stroke-width="1.8" opacity="{}" points=")",
                    color, opacity);
    for (const auto& [x, y] : points) svg_ += fmt::format("{:.1f},{:.1f} ", X(x), Y(y));
    svg_ += "\"/>\n";
  }
  // From the bottom to `value`, `left` and `width` in pixels.
  void DrawBar(double left, double width, double value, const char* color,
               const std::string& tooltip) {
    const double top = Y(value);
    svg_ += fmt::format(
        R"(<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}"><title>{}</title></rect>)"
        "\n",
        left, top, width, std::max(0.0, kHeight - kBottom - top), color, Escape(tooltip));
  }
  void Text(double x, double y, const char* anchor, const std::string& text) {
    svg_ += fmt::format(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>)"
                        "\n",
                        x, y, anchor, Escape(text));
  }

  std::string Finish(const std::string& title) {
    Line(kLeft, kHeight - kBottom, kWidth - kRight, kHeight - kBottom, "axis");
    return fmt::format(
        "<h2>{}</h2>\n<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n{}</svg>\n",
        Escape(title), kWidth, kHeight, Escape(title), svg_);
  }

 private:
  void Line(double x1, double y1, double x2, double y2, const char* style) {
    svg_ += fmt::format(R"(<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>)"
                        "\n",
                        x1, y1, x2, y2, style);
  }

  Axis x_, y_;
  std::string svg_;
};

std::string Percent(double share) { return fmt::format("{:.0f} %", share * 100); }

// A logarithmic axis around all values of `of`, or 1 to 10 if there are none.
Axis LogAxis(std::span<const PolicyResult> results,
             const std::function<std::pair<double, double>(const PolicyResult&)>& of) {
  double low = 0, high = 0;
  for (const PolicyResult& result : results) {
    const auto [least, most] = of(result);
    if (least > 0) low = low == 0 ? least : std::min(low, least);
    high = std::max(high, most);
  }
  if (low == 0) return {.low = 1, .high = 10, .log = true};
  return {.low = low * 0.8, .high = std::max(high, low) * 1.25, .log = true};
}

std::string TtftCdf(std::span<const PolicyResult> results) {
  const Axis x = LogAxis(results, [](const PolicyResult& r) {
    if (r.ttft_cdf_ms.empty()) return std::pair(0.0, 0.0);
    return std::pair<double, double>(std::max(r.ttft_cdf_ms.front(), 0.01F), r.ttft_cdf_ms.back());
  });
  Chart chart(x, {});
  chart.DrawXTicks(Duration);
  chart.DrawYTicks(Percent);
  chart.DrawXTitle("time to first token");
  for (size_t i = 0; i < results.size(); ++i) {
    std::vector<std::pair<double, double>> points;
    const auto& cdf = results[i].ttft_cdf_ms;
    for (size_t p = 0; p < cdf.size(); ++p) {
      points.emplace_back(cdf[p], static_cast<double>(p) / static_cast<double>(cdf.size() - 1));
    }
    chart.DrawCurve(points, ColorOf(i), 1);
  }
  return chart.Finish("Time to first token: share of requests that had it by then");
}

struct Bars {
  const char* label;
  std::function<double(const PolicyResult&)> value;
};

// Groups of bars, a bar for each policy.
void DrawBars(Chart& chart, std::span<const PolicyResult> results, const std::vector<Bars>& groups,
              const Chart::Label& label) {
  const double slot = (kWidth - kLeft - kRight) / static_cast<double>(groups.size());
  const double width = slot * 0.85 / static_cast<double>(results.size());
  for (size_t g = 0; g < groups.size(); ++g) {
    const double left = kLeft + slot * (static_cast<double>(g) + 0.075);
    for (size_t i = 0; i < results.size(); ++i) {
      const double value = groups[g].value(results[i]);
      chart.DrawBar(left + width * static_cast<double>(i), width * 0.92, value, ColorOf(i),
                    fmt::format("{}: {}", results[i].name, label(value)));
    }
    chart.Text(left + slot * 0.425, kHeight - kBottom + 16, "middle", groups[g].label);
  }
}

std::string Percentiles(std::span<const PolicyResult> results, const std::string& title,
                        Summary PolicyResult::*summary) {
  const Axis y = LogAxis(results, [&](const PolicyResult& r) {
    const Summary& s = r.*summary;
    return std::pair(std::min(s.p50, s.mean) / 1.5, std::max(s.p99, s.mean));
  });
  Chart chart({}, y);
  chart.DrawYTicks(Duration);
  DrawBars(chart, results,
           {{"mean", [&](const PolicyResult& r) { return (r.*summary).mean; }},
            {"p50", [&](const PolicyResult& r) { return (r.*summary).p50; }},
            {"p95", [&](const PolicyResult& r) { return (r.*summary).p95; }},
            {"p99", [&](const PolicyResult& r) { return (r.*summary).p99; }}},
           Duration);
  return chart.Finish(title);
}

std::string Shares(std::span<const PolicyResult> results) {
  Chart chart({}, {});
  chart.DrawYTicks(Percent);
  DrawBars(chart, results,
           {{"prompt tokens found in cache", [](const PolicyResult& r) { return r.hit_rate; }},
            {"groups busy", [](const PolicyResult& r) { return std::min(r.utilization, 1.0); }}},
           Percent);
  return chart.Finish("Cache hits and use of the groups");
}

std::string LoadOverTime(std::span<const PolicyResult> results) {
  double end = 0, most = 1;
  for (const PolicyResult& r : results) {
    end = std::max(end, r.load_window_s * static_cast<double>(r.load.size()));
    for (const auto& share : r.load) most = std::max(most, share.max);
  }
  Chart chart({.low = 0, .high = std::max(end, 1e-3)}, {.low = 0, .high = most});
  chart.DrawXTicks([](double s) { return fmt::format("{:g} s", s); });
  chart.DrawYTicks(Percent);
  for (size_t i = 0; i < results.size(); ++i) {
    std::vector<std::pair<double, double>> mean, max;
    for (size_t w = 0; w < results[i].load.size(); ++w) {
      const double at = (static_cast<double>(w) + 0.5) * results[i].load_window_s;
      mean.emplace_back(at, results[i].load[w].mean);
      max.emplace_back(at, results[i].load[w].max);
    }
    chart.DrawCurve(mean, ColorOf(i), 1);
    chart.DrawCurve(max, ColorOf(i), 0.3);
  }
  return chart.Finish("Busy share of the groups over time: mean, and pale the busiest one");
}

std::string Key(std::span<const PolicyResult> results) {
  std::string key = "<p class=\"key\">";
  for (size_t i = 0; i < results.size(); ++i) {
    key += fmt::format("<span><i style=\"background:{}\"></i>{}</span>", ColorOf(i),
                       Escape(results[i].name));
  }
  return key + "</p>\n";
}

std::string Table(std::span<const PolicyResult> results) {
  std::string table =
      "<table><tr><th>policy</th><th>requests</th><th>lost</th><th>TTFT mean</th><th>p50</th>"
      "<th>p95</th><th>p99</th><th>ITL mean</th><th>p99</th><th>end to end p50</th><th>p95</th>"
      "<th>hits</th><th>goodput/s</th><th>imbalance</th></tr>\n";
  for (const PolicyResult& r : results) {
    table += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>"
        "<td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.1f} %</td><td>{:.2f}</td>"
        "<td>{:.2f}</td></tr>\n",
        Escape(r.name), r.requests, r.rejected + r.failed, Duration(r.ttft.mean),
        Duration(r.ttft.p50), Duration(r.ttft.p95), Duration(r.ttft.p99), Duration(r.itl.mean),
        Duration(r.itl.p99), Duration(r.e2e.p50), Duration(r.e2e.p95), r.hit_rate * 100, r.goodput,
        r.imbalance);
  }
  return table + "</table>\n";
}

}  // namespace

std::string Html(const Setting& setting, std::span<const PolicyResult> results) {
  return fmt::format(
             "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
             "<title>tandem simulate</title><style>{}</style></head>\n<body>\n"
             "<h1>tandem simulate</h1>\n<p>{} on {}</p>\n<p>{}</p>\n",
             kStyle, Escape(setting.trace), Escape(setting.cluster), Escape(setting.details)) +
         Table(results) + Key(results) + TtftCdf(results) +
         Percentiles(results, "Time to first token", &PolicyResult::ttft) +
         Percentiles(results, "Gap between tokens", &PolicyResult::itl) +
         Percentiles(results, "Whole request", &PolicyResult::e2e) + Shares(results) +
         LoadOverTime(results) + "</body></html>\n";
}

}  // namespace tandem::simulator
