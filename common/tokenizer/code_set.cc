#include "common/tokenizer/code_set.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace tandem::text {
namespace {

enum Category : uint8_t {
  kLu,
  kLl,
  kLt,
  kLm,
  kLo,
  kMn,
  kMc,
  kMe,
  kNd,
  kNl,
  kNo,
  kPc,
  kPd,
  kPs,
  kPe,
  kPi,
  kPf,
  kPo,
  kSm,
  kSc,
  kSk,
  kSo,
  kZs,
  kZl,
  kZp,
  kCc,
  kCf,
  kCo,
  kCn,
};

constexpr std::string_view kCategoryNames[] = {
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe",
    "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Cn",
};

struct CategoryStart {
  uint32_t code;
  Category category;
};

#include "common/tokenizer/unicode_classes.inc"

// The characters whose category begins with `prefix`.
CodeSet WithPrefix(std::string_view prefix) {
  std::vector<CodeRange> ranges;
  for (const CategoryStart* at = std::begin(kCategoryStarts); at != std::end(kCategoryStarts);
       ++at) {
    if (!kCategoryNames[at->category].starts_with(prefix)) continue;
    const bool is_last = at + 1 == std::end(kCategoryStarts);
    ranges.push_back({at->code, is_last ? kLastCode : (at + 1)->code - 1});
  }
  return CodeSet(std::move(ranges));
}

template <size_t n>
CodeSet Table(const CodeRange (&ranges)[n]) {
  return CodeSet({std::begin(ranges), std::end(ranges)});
}

}  // namespace

CodeSet::CodeSet(std::vector<CodeRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const CodeRange& a, const CodeRange& b) { return a.first < b.first; });
  for (const CodeRange& range : ranges) {
    if (!ranges_.empty() && range.first <= ranges_.back().last + 1) {
      ranges_.back().last = std::max(ranges_.back().last, range.last);
    } else {
      ranges_.push_back(range);
    }
  }
}

std::optional<CodeSet> CodeSet::Property(std::string_view name) {
  const bool is_initial =
      name.size() == 1 && std::string_view("LMNPSZC").find(name[0]) != std::string_view::npos;
  const bool is_category = std::find(std::begin(kCategoryNames), std::end(kCategoryNames), name) !=
                           std::end(kCategoryNames);
  if (!is_initial && !is_category) return std::nullopt;
  return WithPrefix(name);
}

CodeSet CodeSet::Space() { return WithPrefix("Z") | CodeSet({{0x09, 0x0d}, {0x85, 0x85}}); }

CodeSet CodeSet::Digit() { return WithPrefix("Nd"); }

CodeSet CodeSet::Word() {
  return WithPrefix("L") | WithPrefix("M") | WithPrefix("Nd") | WithPrefix("Nl") |
         WithPrefix("Pc") | Table(kOtherWord);
}

CodeSet CodeSet::Number() { return WithPrefix("N") | Table(kOtherNumbers); }

CodeSet CodeSet::Punctuation() {
  const CodeSet ascii({{0x21, 0x2f}, {0x3a, 0x40}, {0x5b, 0x60}, {0x7b, 0x7e}});
  return ((WithPrefix("P") | ascii) & Table(kUnknownPunctuation).Complement()) |
         Table(kOtherPunctuation);
}

CodeSet CodeSet::LateMarks() { return Table(kLateMarks); }

CodeSet CodeSet::Complement() const {
  std::vector<CodeRange> ranges;
  uint32_t next = 0;
  for (const CodeRange& range : ranges_) {
    if (range.first > next) ranges.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLastCode) ranges.push_back({next, kLastCode});
  return CodeSet(std::move(ranges));
}

CodeSet CodeSet::operator|(const CodeSet& other) const {
  std::vector<CodeRange> ranges = ranges_;
  ranges.insert(ranges.end(), other.ranges_.begin(), other.ranges_.end());
  return CodeSet(std::move(ranges));
}

CodeSet CodeSet::operator&(const CodeSet& other) const {
  return (Complement() | other.Complement()).Complement();
}

bool CodeSet::Contains(uint32_t code) const {
  const auto it =
      std::upper_bound(ranges_.begin(), ranges_.end(), code,
                       [](uint32_t c, const CodeRange& range) { return c < range.first; });
  return it != ranges_.begin() && code <= std::prev(it)->last;
}

}  // namespace tandem::text
