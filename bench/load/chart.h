// A chart as inline SVG: lines or dots over two axes with round ticks. No script, no style sheet.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tandem::load {

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;
  bool dots = false;  // else a line
};

struct ChartOptions {
  std::string title;
  std::string x_label;
  std::string y_label;
  bool log_x = false;  // only points above 0 are drawn
  bool log_y = false;
};

std::string Chart(const ChartOptions& options, const std::vector<Series>& series);

// `text` with what HTML takes for markup written out.
std::string HtmlEscaped(std::string_view text);

// Of the values: (value, share of values not above it), at most `points` of them.
std::vector<std::pair<double, double>> Cdf(std::vector<double> values, size_t points = 400);

}  // namespace tandem::load
