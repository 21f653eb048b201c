// What a simulation found, for eyes and for programs: a table, JSON, one HTML page.
#pragma once

#include <span>
#include <string>

#include "bench/sim/stats.h"
#include "common/status.h"

namespace tandem::simulator {

// Side by side, a line a policy.
std::string TextTable(std::span<const PolicyResult> results);

// {"policies": [...]}: equal results are equal bytes.
std::string Json(std::span<const PolicyResult> results);

// What was simulated, for the page's head.
struct Setting {
  std::string trace, cluster;  // files
  std::string details;         // one line: groups, rate, seed, ...
};

// A page of its own: styles and charts (SVG) are in it, nothing is fetched.
std::string Html(const Setting& setting, std::span<const PolicyResult> results);

// Replaces the file.
Status WriteFile(const std::string& path, const std::string& text);

}  // namespace tandem::simulator
