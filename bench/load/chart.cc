#include "bench/load/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>

namespace tandem::load {
namespace {

constexpr double kWidth = 640, kHeight = 300;
constexpr double kLeft = 64, kRight = 16, kTop = 34, kBottom = 44;
constexpr std::array<const char*, 5> kColors = {"#2563a8", "#c2571a", "#2e8b57", "#8a4fa3",
                                                "#666666"};

// Values to positions along one side of the plot.
class Axis {
 public:
  Axis(double low, double high, bool log, double from, double to)
      : log_(log), from_(from), to_(to) {
    if (log) {
      low_ = std::floor(std::log10(low));
      high_ = std::max(low_ + 1, std::ceil(std::log10(high)));
      for (double e = low_; e <= high_; ++e) ticks_.push_back(std::pow(10, e));
      return;
    }
    const double step = RoundStep(std::max(high - low, 1e-9) / 5);
    low_ = std::floor(low / step) * step;
    high_ = std::max(std::ceil(high / step), std::floor(low / step) + 1) * step;
    const auto num = static_cast<int>(std::lround((high_ - low_) / step));
    for (int i = 0; i <= num; ++i) ticks_.push_back(low_ + i * step);
  }

  double Position(double value) const {
    const double v = log_ ? std::log10(value) : value;
    return from_ + (v - low_) / (high_ - low_) * (to_ - from_);
  }
  const std::vector<double>& ticks() const { return ticks_; }

 private:
  // 1, 2 or 5 times a power of ten, not below `least`.
  static double RoundStep(double least) {
    const double power = std::pow(10, std::floor(std::log10(least)));
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (factor * power >= least * (1 - 1e-9)) return factor * power;
    }
    return 10 * power;
  }

  bool log_;
  double from_, to_;
  double low_ = 0, high_ = 1;
  std::vector<double> ticks_;
};

bool Drawn(const ChartOptions& options, const std::pair<double, double>& point) {
  return (!options.log_x || point.first > 0) && (!options.log_y || point.second > 0);
}

struct Bounds {
  double x0 = INFINITY, x1 = -INFINITY, y0 = INFINITY, y1 = -INFINITY;
  bool empty() const { return x0 > x1; }
};

Bounds FindBounds(const ChartOptions& options, const std::vector<Series>& series) {
  Bounds b;
  for (const Series& one : series) {
    for (const auto& point : one.points) {
      if (!Drawn(options, point)) continue;
      b.x0 = std::min(b.x0, point.first);
      b.x1 = std::max(b.x1, point.first);
      b.y0 = std::min(b.y0, point.second);
      b.y1 = std::max(b.y1, point.second);
    }
  }
  if (!options.log_y) b.y0 = std::min(b.y0, 0.0);
  return b;
}

void AppendText(std::string& out, double x, double y, std::string_view anchor,
                std::string_view text) {
  fmt::format_to(std::back_inserter(out),
                 "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor,
                 HtmlEscaped(text));
}

void AppendLine(std::string& out, double x0, double y0, double x1, double y1) {
  fmt::format_to(std::back_inserter(out),
                 "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" "
                 "stroke=\"#ddd\"/>\n",
                 x0, y0, x1, y1);
}

void AppendAxes(std::string& out, const ChartOptions& options, const Axis& x, const Axis& y) {
  for (const double tick : x.ticks()) {
    AppendLine(out, x.Position(tick), kTop, x.Position(tick), kHeight - kBottom);
    AppendText(out, x.Position(tick), kHeight - kBottom + 15, "middle",
               fmt::format("{:.6g}", tick));
  }
  for (const double tick : y.ticks()) {
    AppendLine(out, kLeft, y.Position(tick), kWidth - kRight, y.Position(tick));
    AppendText(out, kLeft - 6, y.Position(tick) + 4, "end", fmt::format("{:.6g}", tick));
  }
  AppendText(out, (kLeft + kWidth - kRight) / 2, kHeight - 8, "middle", options.x_label);
  AppendText(out, 4, kTop - 8, "start", options.y_label);
}

void AppendSeries(std::string& out, const ChartOptions& options, const Series& series,
                  const char* color, const Axis& x, const Axis& y) {
  auto to = std::back_inserter(out);
  if (!series.dots) out += "<polyline fill=\"none\" stroke-width=\"1.5\" points=\"";
  for (const auto& point : series.points) {
    if (!Drawn(options, point)) continue;
    const double px = x.Position(point.first), py = y.Position(point.second);
    if (series.dots) {
      fmt::format_to(to,
                     "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"1.6\" fill=\"{}\" "
                     "fill-opacity=\"0.5\"/>\n",
                     px, py, color);
    } else {
      fmt::format_to(to, "{:.1f},{:.1f} ", px, py);
    }
  }
  if (!series.dots) fmt::format_to(to, "\" stroke=\"{}\"/>\n", color);
}

void AppendLegend(std::string& out, const std::vector<Series>& series) {
  double x = kWidth - kRight;
  for (size_t i = series.size(); i-- > 0;) {
    AppendText(out, x, kTop - 8, "end", series[i].name);
    x -= 7.0 * static_cast<double>(series[i].name.size()) + 12;
    fmt::format_to(std::back_inserter(out),
                   "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"9\" height=\"9\" fill=\"{}\"/>\n", x,
                   kTop - 16, kColors[i % kColors.size()]);
    x -= 12;
  }
}

}  // namespace

std::string HtmlEscaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string Chart(const ChartOptions& options, const std::vector<Series>& series) {
  std::string out =
      fmt::format("<figure><figcaption>{}</figcaption>\n", HtmlEscaped(options.title));
  const Bounds b = FindBounds(options, series);
  if (b.empty()) return out + "<p>nothing to show</p></figure>\n";
  const Axis x(b.x0, b.x1, options.log_x, kLeft, kWidth - kRight);
  const Axis y(b.y0, b.y1, options.log_y, kHeight - kBottom, kTop);
  fmt::format_to(std::back_inserter(out),
                 "<svg viewBox=\"0 0 {} {}\" width=\"{}\" font-size=\"11\" "
                 "font-family=\"sans-serif\">\n",
                 kWidth, kHeight, kWidth);
  AppendAxes(out, options, x, y);
  for (size_t i = 0; i < series.size(); ++i) {
    AppendSeries(out, options, series[i], kColors[i % kColors.size()], x, y);
  }
  AppendLegend(out, series);
  return out + "</svg></figure>\n";
}

std::vector<std::pair<double, double>> Cdf(std::vector<double> values, size_t points) {
  std::sort(values.begin(), values.end());
  std::vector<std::pair<double, double>> out;
  const size_t n = values.size();
  const size_t num = std::min(n, points);
  for (size_t i = 1; i <= num; ++i) {
    const size_t rank = i * n / num;  // the last is n: the largest is always there
    out.emplace_back(values[rank - 1], static_cast<double>(rank) / static_cast<double>(n));
  }
  return out;
}

}  // namespace tandem::load
