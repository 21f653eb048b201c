#include "common/grammar/rules.h"

#include <algorithm>
#include <utility>

namespace tandem::grammar {
namespace {

// Beyond what a machine may have anyway, and some 100 MB.
constexpr size_t kMaxExprs = 1 << 20;
constexpr size_t kMaxParts = 1 << 22;
constexpr size_t kMaxNameBytes = 100;

constexpr uint32_t kFirstSurrogate = 0xd800;
constexpr uint32_t kLastSurrogate = 0xdfff;

// The last code point of each length in UTF-8.
constexpr uint32_t kLastOfLength[] = {0x7f, 0x7ff, 0xffff, kLastCodePoint};

int Encode(uint32_t code, uint8_t (&bytes)[4]) {
  if (code < 0x80) {
    bytes[0] = static_cast<uint8_t>(code);
    return 1;
  }
  const int size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  for (int i = size - 1; i > 0; --i, code >>= 6) {
    bytes[i] = static_cast<uint8_t>(0x80 | (code & 0x3f));
  }
  constexpr uint8_t kLead[] = {0, 0, 0xc0, 0xe0, 0xf0};
  bytes[0] = static_cast<uint8_t>(kLead[size] | code);
  return size;
}

// Sorted, without overlaps, neighbours joined.
std::vector<CodeRange> Joined(std::vector<CodeRange> set) {
  std::sort(set.begin(), set.end(), [](auto& a, auto& b) { return a.first < b.first; });
  std::vector<CodeRange> out;
  for (const CodeRange& range : set) {
    if (range.first > range.last) continue;
    if (!out.empty() && range.first <= out.back().last + 1) {
      out.back().last = std::max(out.back().last, range.last);
    } else {
      out.push_back(range);
    }
  }
  return out;
}

}  // namespace

Rules::Rules() : exprs_(1) { bytes_.fill(-1); }

Status Rules::CheckSize() const {
  if (exprs_.size() < kMaxExprs && num_parts_ < kMaxParts) return OkStatus();
  return InvalidArgument("the grammar is too large");
}

ExprId Rules::Add(Expr expr) {
  if (exprs_.size() >= kMaxExprs || num_parts_ >= kMaxParts) return Nothing();
  num_parts_ += expr.parts.size();
  exprs_.push_back(std::move(expr));
  return static_cast<ExprId>(exprs_.size()) - 1;
}

ExprId Rules::Byte(uint8_t first, uint8_t last) {
  const auto make = [&] { return Add({.kind = Expr::Kind::kBytes, .first = first, .last = last}); };
  if (first != last) return make();
  if (bytes_[first] < 0) bytes_[first] = make();
  return bytes_[first];
}

ExprId Rules::Literal(std::string_view bytes) {
  std::vector<ExprId> parts;
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    parts.push_back(Byte(byte, byte));
  }
  return Sequence(std::move(parts));
}

ExprId Rules::Sequence(std::vector<ExprId> parts) {
  if (parts.size() == 1) return parts[0];
  return Add({.kind = parts.empty() ? Expr::Kind::kNothing : Expr::Kind::kSequence,
              .parts = std::move(parts)});
}

ExprId Rules::Choice(std::vector<ExprId> parts) {
  if (parts.size() == 1) return parts[0];
  return Add({.kind = parts.empty() ? Expr::Kind::kNever : Expr::Kind::kChoice,
              .parts = std::move(parts)});
}

ExprId Rules::Repeat(ExprId part, int min, int max) {
  if (max == 0) return Nothing();
  if (min == 1 && max == 1) return part;
  return Add({.kind = Expr::Kind::kRepeat, .min = min, .max = max, .parts = {part}});
}

RuleId Rules::AddRule(std::string name, bool written) {
  if (name.size() > kMaxNameBytes) {
    size_t size = kMaxNameBytes;
    while ((static_cast<uint8_t>(name[size]) & 0xc0) == 0x80) --size;  // not within a character
    name.resize(size);
    name += "...";
  }
  names_.push_back(std::move(name));
  bodies_.push_back(Never());
  written_.push_back(written);
  return num_rules() - 1;
}

ExprId Rules::CodePoints(std::vector<CodeRange> set) {
  if (set.size() == 1 && set[0].first == set[0].last &&
      (set[0].first < kFirstSurrogate || set[0].first > kLastSurrogate)) {
    return Encoded(set[0].first);
  }
  const auto [it, is_new] = sets_.try_emplace(Joined(std::move(set)), -1);
  if (!is_new) return it->second;
  std::vector<ExprId> choices;
  for (const CodeRange& range : it->first) {
    if (range.first < kFirstSurrogate) {
      AddUtf8(range.first, std::min(range.last, kFirstSurrogate - 1), choices);
    }
    if (range.last > kLastSurrogate) {
      AddUtf8(std::max(range.first, kLastSurrogate + 1), std::min(range.last, kLastCodePoint),
              choices);
    }
  }
  return it->second = Choice(std::move(choices));
}

ExprId Rules::Encoded(uint32_t code) {
  uint8_t bytes[4];
  const int size = Encode(code, bytes);
  std::vector<ExprId> parts;
  parts.reserve(static_cast<size_t>(size));
  for (int i = 0; i < size; ++i) parts.push_back(Byte(bytes[i], bytes[i]));
  return Sequence(std::move(parts));
}

// Cuts [first, last] into pieces in which every byte of the encoding has a range of its own: the
// bytes behind the first that differs must run from 80 to bf.
void Rules::AddUtf8(uint32_t first, uint32_t last, std::vector<ExprId>& choices) {
  if (first > last) return;
  for (const uint32_t end : kLastOfLength) {
    if (first <= end && end < last) {
      AddUtf8(first, end, choices);
      AddUtf8(end + 1, last, choices);
      return;
    }
  }
  if (first >= 0x80) {
    for (int bits = 6; bits <= 18; bits += 6) {
      const uint32_t low = (1u << bits) - 1;
      if ((first & ~low) == (last & ~low)) continue;
      if ((first & low) != 0) {
        AddUtf8(first, first | low, choices);
        AddUtf8((first | low) + 1, last, choices);
        return;
      }
      if ((last & low) != low) {
        AddUtf8(first, (last & ~low) - 1, choices);
        AddUtf8(last & ~low, last, choices);
        return;
      }
    }
  }
  uint8_t low[4], high[4];
  const int size = Encode(first, low);
  Encode(last, high);
  std::vector<ExprId> bytes;
  bytes.reserve(static_cast<size_t>(size));
  for (int i = 0; i < size; ++i) bytes.push_back(Byte(low[i], high[i]));
  choices.push_back(Sequence(std::move(bytes)));
}

std::vector<CodeRange> Complement(std::vector<CodeRange> set) {
  std::vector<CodeRange> out;
  uint32_t next = 0;
  for (const CodeRange& range : Joined(std::move(set))) {
    if (range.first > next) out.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLastCodePoint) out.push_back({next, kLastCodePoint});
  return out;
}

}  // namespace tandem::grammar
