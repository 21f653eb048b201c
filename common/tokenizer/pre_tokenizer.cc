#include "common/tokenizer/pre_tokenizer.h"

#include <utility>

#include "common/tokenizer/replace.h"

namespace tandem::text {
namespace {

using Behavior = PreTokenizer::Behavior;

struct Segment {
  size_t begin;
  size_t end;
  bool is_match;
};

// Covers the text, in order. Matches that touch stay apart.
std::vector<Segment> FindSegments(const Regex& regex, bool invert, std::string_view piece,
                                  Regex::Text& text) {
  std::vector<Segment> segments;
  regex.Begin(piece, text);
  for (size_t at = 0; at < piece.size();) {
    const Regex::Match match = regex.Find(text, at);
    if (match.begin > at) segments.push_back({at, match.begin, invert});
    if (match.end > match.begin) segments.push_back({match.begin, match.end, !invert});
    at = match.end;
  }
  return segments;
}

// Joins each segment that `joins` says belongs to the one before it.
template <class Joins>
void Merge(std::vector<Segment>& segments, Joins joins) {
  size_t kept = 0;
  bool before = false;  // whether the segment before was a match
  for (size_t i = 0; i < segments.size(); ++i) {
    const Segment segment = segments[i];
    if (i > 0 && joins(before, segment.is_match)) {
      segments[kept - 1].end = segment.end;
    } else {
      segments[kept++] = segment;
    }
    before = segment.is_match;
  }
  segments.resize(kept);
}

void Regroup(Behavior behavior, std::vector<Segment>& segments) {
  switch (behavior) {
    case Behavior::kRemoved:
      std::erase_if(segments, [](const Segment& s) { return s.is_match; });
      break;
    case Behavior::kIsolated:
      break;
    case Behavior::kContiguous:
      Merge(segments, [](bool before, bool match) { return before == match; });
      break;
    case Behavior::kMergedWithPrevious:
      Merge(segments, [](bool before, bool match) { return match && !before; });
      break;
    case Behavior::kMergedWithNext:
      Merge(segments, [](bool before, bool match) { return before && !match; });
      break;
  }
}

}  // namespace

void PreTokenizer::AddSplit(Regex regex, Behavior behavior, bool invert) {
  steps_.emplace_back(Split{std::move(regex), behavior, invert});
}

void PreTokenizer::AddPrefixSpace() { steps_.emplace_back(PrefixSpace{}); }

void PreTokenizer::AddMetaspace(std::string replacement, Prepend prepend) {
  steps_.emplace_back(Metaspace{std::move(replacement), prepend});
}

void PreTokenizer::Apply(std::string_view text, bool begins_text, Scratch& scratch,
                         Emit emit) const {
  scratch.texts.resize(steps_.size());
  Go(text, {0, begins_text, scratch, emit});
}

void PreTokenizer::Go(std::string_view piece, const Rest& rest) const {
  if (piece.empty()) return;
  if (rest.step == steps_.size()) return rest.emit(piece);
  const Step& step = steps_[rest.step];
  const Rest after = {rest.step + 1, rest.begins_text, rest.scratch, rest.emit};
  if (const auto* split = std::get_if<Split>(&step)) return Cut(*split, piece, rest);
  if (std::holds_alternative<PrefixSpace>(step)) {
    if (piece[0] == ' ') return Go(piece, after);
    return Go(std::string(" ").append(piece), after);
  }
  const auto& metaspace = std::get<Metaspace>(step);
  const bool prepends = metaspace.prepend == Prepend::kAlways ||
                        (metaspace.prepend == Prepend::kFirst && rest.begins_text);
  const bool begins_with_it = piece[0] == ' ' || piece.starts_with(metaspace.replacement);
  std::string changed = prepends && !begins_with_it ? metaspace.replacement : "";
  AppendReplaced(piece, " ", metaspace.replacement, changed);
  Go(changed, after);
}

void PreTokenizer::Cut(const Split& split, std::string_view piece, const Rest& rest) const {
  Regex::Text& text = rest.scratch.texts[rest.step];
  const auto pass_on = [&](size_t begin, size_t end) {
    Go(piece.substr(begin, end - begin),
       {rest.step + 1, rest.begins_text && begin == 0, rest.scratch, rest.emit});
  };
  if (split.behavior != Behavior::kIsolated) {
    std::vector<Segment> segments = FindSegments(split.regex, split.invert, piece, text);
    rest.scratch.steps += Regex::StepsFor(piece.size()) - text.steps;
    Regroup(split.behavior, segments);
    for (const Segment& segment : segments) pass_on(segment.begin, segment.end);
    return;
  }
  split.regex.Begin(piece, text);
  for (size_t at = 0; at < piece.size();) {
    const Regex::Match match = split.regex.Find(text, at);
    if (match.begin > at) pass_on(at, match.begin);
    if (match.end > match.begin) pass_on(match.begin, match.end);
    at = match.end;
  }
  rest.scratch.steps += Regex::StepsFor(piece.size()) - text.steps;
}

}  // namespace tandem::text
