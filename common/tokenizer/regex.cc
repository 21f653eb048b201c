#include "common/tokenizer/regex.h"

#include <algorithm>
#include <bit>
#include <map>
#include <utility>

#include "common/tokenizer/utf8.h"

namespace tandem::text {
namespace {

// Classes. A byte that continues a character is in every set, so that a run of a set's characters
// is a run of its bytes; the end of the text is in none.
constexpr uint8_t kContinuation = 0;
constexpr uint8_t kEnd = 1;
constexpr uint8_t kFirstClass = 2;

constexpr size_t kMaxSets = 64;          // bits of a mask
constexpr size_t kMaxAlternatives = 64;  // bits of viable_
constexpr size_t kMaxProgram = 20000;

// The known expressions need fewer than 20 a byte.
constexpr uint64_t kStepsPerByte = 128;

// Sets of their own bits: the newline is the first, for ^ and $.
constexpr uint64_t kNewline = 1;

Status AddSet(const CodeSet& set, std::vector<CodeSet>& sets) {
  if (std::find(sets.begin(), sets.end(), set) != sets.end()) return OkStatus();
  if (sets.size() == kMaxSets) return Unsupported("more than {} sets of characters", kMaxSets);
  sets.push_back(set);
  return OkStatus();
}

Status CollectSets(const RegexNode& node, std::vector<CodeSet>& sets) {
  if (node.kind == RegexNode::kSet) return AddSet(node.set, sets);
  for (const RegexNode& child : node.children) TANDEM_RETURN_IF_ERROR(CollectSets(child, sets));
  return OkStatus();
}

// May match the empty string. Takes look-ahead and assertions for such.
bool CanBeEmpty(const RegexNode& node) {
  const auto& children = node.children;
  switch (node.kind) {
    case RegexNode::kSet:
      return false;
    case RegexNode::kSequence:
      return std::all_of(children.begin(), children.end(), CanBeEmpty);
    case RegexNode::kChoice:
      return std::any_of(children.begin(), children.end(), CanBeEmpty);
    case RegexNode::kRepeat:
      return node.min == 0 || CanBeEmpty(children[0]);
    default:
      return true;
  }
}

size_t Next(const std::vector<uint8_t>& classes, size_t at) {
  do ++at;
  while (classes[at] == kContinuation);
  return at;
}

size_t Previous(const std::vector<uint8_t>& classes, size_t at) {
  do --at;
  while (classes[at] == kContinuation);
  return at;
}

}  // namespace

StatusOr<Regex> Regex::Compile(std::string_view pattern) {
  TANDEM_ASSIGN_OR_RETURN(const RegexNode node, ParseRegex(pattern));
  return Build(node);
}

StatusOr<Regex> Regex::Literal(std::string_view text) {
  RegexNode node;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = ReadCodePoint(text, at);
    node.children.push_back({.kind = RegexNode::kSet, .set = CodeSet::Of(point.value)});
    at += point.size;
  }
  return Build(node);
}

StatusOr<Regex> Regex::OneOf(const CodeSet& set, bool repeated) {
  RegexNode one = {.kind = RegexNode::kSet, .set = set};
  if (!repeated) return Build(one);
  return Build({.kind = RegexNode::kRepeat, .children = {std::move(one)}, .min = 1});
}

StatusOr<Regex> Regex::Build(const RegexNode& node) {
  if (CanBeEmpty(node)) return Unsupported("an expression that matches the empty string");
  std::vector<CodeSet> sets = {CodeSet::Of('\n')};
  TANDEM_RETURN_IF_ERROR(CollectSets(node, sets));
  Regex regex;
  TANDEM_RETURN_IF_ERROR(regex.MakeClasses(sets));
  if (node.kind == RegexNode::kChoice && node.children.size() <= kMaxAlternatives) {
    for (const RegexNode& child : node.children) {
      TANDEM_RETURN_IF_ERROR(regex.AddAlternative(child, sets));
    }
  } else {
    TANDEM_RETURN_IF_ERROR(regex.AddAlternative(node, sets));
  }
  return regex;
}

// Cuts all code points where any set begins or ends; pieces that are in the same sets are a class.
Status Regex::MakeClasses(const std::vector<CodeSet>& sets) {
  std::vector<uint32_t> cuts = {0};
  for (const CodeSet& set : sets) {
    for (const CodeRange& range : set.ranges()) {
      cuts.push_back(range.first);
      if (range.last < kLastCode) cuts.push_back(range.last + 1);
    }
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  masks_[kContinuation] = ~uint64_t{0};
  std::map<uint64_t, uint8_t> class_of_mask;
  std::vector<uint8_t> class_of(kLastCode + 1);
  for (size_t i = 0; i < cuts.size(); ++i) {
    uint64_t mask = 0;
    for (size_t s = 0; s < sets.size(); ++s) {
      if (sets[s].Contains(cuts[i])) mask |= uint64_t{1} << s;
    }
    const size_t next = kFirstClass + class_of_mask.size();
    const auto [it, is_new] = class_of_mask.emplace(mask, static_cast<uint8_t>(next));
    if (is_new && next >= masks_.size()) return Unsupported("more than 254 kinds of characters");
    masks_[it->second] = mask;
    const uint32_t end = i + 1 < cuts.size() ? cuts[i + 1] : kLastCode + 1;
    std::fill(class_of.begin() + cuts[i], class_of.begin() + end, it->second);
  }
  MakePages(class_of);
  return OkStatus();
}

void Regex::MakePages(const std::vector<uint8_t>& class_of) {
  std::map<std::array<uint8_t, 256>, uint16_t> known;
  for (size_t code = 0; code < class_of.size(); code += 256) {
    std::array<uint8_t, 256> page;
    std::copy_n(class_of.begin() + static_cast<ptrdiff_t>(code), page.size(), page.begin());
    const auto [it, is_new] = known.emplace(page, static_cast<uint16_t>(pages_.size()));
    if (is_new) pages_.push_back(page);
    page_of_.push_back(it->second);
  }
}

uint64_t Regex::SetBit(const CodeSet& set, const std::vector<CodeSet>& sets) const {
  return uint64_t{1} << (std::find(sets.begin(), sets.end(), set) - sets.begin());
}

Status Regex::AddAlternative(const RegexNode& node, const std::vector<CodeSet>& sets) {
  const uint64_t bit = uint64_t{1} << starts_.size();
  starts_.push_back(static_cast<int>(program_.size()));
  TANDEM_RETURN_IF_ERROR(Emit(node, sets));
  program_.push_back({.op = Instruction::kMatch});
  bool can_be_empty = false;
  const uint64_t first = FirstBits(node, sets, can_be_empty);
  for (size_t c = kFirstClass; c < masks_.size(); ++c) {
    if (can_be_empty || (masks_[c] & first) != 0) viable_[c] |= bit;
  }
  return OkStatus();
}

// The sets whose characters a match of `node` may begin with.
uint64_t Regex::FirstBits(const RegexNode& node, const std::vector<CodeSet>& sets,
                          bool& can_be_empty) const {
  can_be_empty = CanBeEmpty(node);
  if (node.kind == RegexNode::kSet) return SetBit(node.set, sets);
  if (node.kind == RegexNode::kAhead) return 0;
  uint64_t bits = 0;
  for (const RegexNode& child : node.children) {
    bool child_can_be_empty = false;
    bits |= FirstBits(child, sets, child_can_be_empty);
    if (node.kind == RegexNode::kSequence && !child_can_be_empty) break;
  }
  return bits;
}

Status Regex::Emit(const RegexNode& node, const std::vector<CodeSet>& sets) {
  if (program_.size() > kMaxProgram) return Unsupported("an expression of this size");
  switch (node.kind) {
    case RegexNode::kSet:
      program_.push_back({.op = Instruction::kSet, .set = SetBit(node.set, sets)});
      return OkStatus();
    case RegexNode::kSequence:
      for (const RegexNode& child : node.children) TANDEM_RETURN_IF_ERROR(Emit(child, sets));
      return OkStatus();
    case RegexNode::kChoice: {
      std::vector<size_t> jumps;
      for (size_t i = 0; i < node.children.size(); ++i) {
        const size_t split = program_.size();
        const bool is_last = i + 1 == node.children.size();
        if (!is_last) program_.push_back({.op = Instruction::kSplit});
        TANDEM_RETURN_IF_ERROR(Emit(node.children[i], sets));
        if (is_last) break;
        jumps.push_back(program_.size());
        program_.push_back({.op = Instruction::kJump});
        program_[split].target = static_cast<int>(program_.size());
      }
      for (const size_t jump : jumps) program_[jump].target = static_cast<int>(program_.size());
      return OkStatus();
    }
    case RegexNode::kRepeat:
      return EmitRepeat(node, sets);
    case RegexNode::kAhead: {
      const size_t ahead = program_.size();
      program_.push_back({.op = Instruction::kAhead, .negative = node.negative});
      TANDEM_RETURN_IF_ERROR(Emit(node.children[0], sets));
      program_.push_back({.op = Instruction::kMatch});
      program_[ahead].target = static_cast<int>(program_.size());
      return OkStatus();
    }
    default:
      program_.push_back({.op = Instruction::kAssert, .assertion = node.kind});
      return OkStatus();
  }
}

Status Regex::EmitRepeat(const RegexNode& node, const std::vector<CodeSet>& sets) {
  const RegexNode& child = node.children[0];
  if (child.kind == RegexNode::kSet) {
    program_.push_back({.op = Instruction::kRun,
                        .possessive = node.possessive,
                        .set = SetBit(child.set, sets),
                        .min = node.min,
                        .max = node.max});
    return OkStatus();
  }
  if (CanBeEmpty(child)) return Unsupported("the repetition of what may be empty");
  for (int i = 0; i < node.min; ++i) TANDEM_RETURN_IF_ERROR(Emit(child, sets));
  const bool forever = node.max == RegexNode::kNoLimit;
  std::vector<size_t> splits;
  for (int i = node.min; i < (forever ? node.min + 1 : node.max); ++i) {
    splits.push_back(program_.size());
    program_.push_back({.op = Instruction::kSplit});
    TANDEM_RETURN_IF_ERROR(Emit(child, sets));
  }
  if (forever) {
    program_.push_back({.op = Instruction::kJump, .target = static_cast<int>(splits[0])});
  }
  for (const size_t split : splits) program_[split].target = static_cast<int>(program_.size());
  return OkStatus();
}

uint64_t Regex::StepsFor(size_t size) { return kStepsPerByte * (size + 64); }

void Regex::Begin(std::string_view bytes, Text& text) const {
  text.steps = StepsFor(bytes.size());
  text.classes.resize(bytes.size() + 1);
  uint8_t* classes = text.classes.data();
  const std::array<uint8_t, 256>& ascii = pages_[page_of_[0]];
  for (size_t at = 0; at < bytes.size();) {
    const auto byte = static_cast<unsigned char>(bytes[at]);
    if (byte < 0x80) {
      classes[at++] = ascii[byte];
      continue;
    }
    const CodePoint point = ReadCodePoint(bytes, at);
    classes[at] = ClassOf(point.value);
    std::fill_n(classes + at + 1, point.size - 1, kContinuation);
    at += point.size;
  }
  classes[bytes.size()] = kEnd;
}

Regex::Match Regex::Find(Text& text, size_t from) const {
  const size_t size = text.classes.size() - 1;
  for (size_t at = from; at < size; at = Next(text.classes, at)) {
    for (uint64_t left = viable_[text.classes[at]]; left != 0; left &= left - 1) {
      size_t end = at;
      if (MatchFrom(starts_[std::countr_zero(left)], at, text, end)) return {at, end};
    }
    if (text.steps == 0) break;
    --text.steps;
  }
  return {size, size};
}

bool Regex::MatchFrom(int pc, size_t at, Text& text, size_t& end) const {
  const std::vector<uint8_t>& classes = text.classes;
  const size_t base = text.frames.size();
  while (text.steps > 0) {
    --text.steps;
    const Instruction& in = program_[pc];
    bool goes_on = true;
    switch (in.op) {
      case Instruction::kMatch:
        end = at;
        text.frames.resize(base);
        return true;
      case Instruction::kSet:
        goes_on = (masks_[classes[at]] & in.set) != 0;
        if (goes_on) at = Next(classes, at);
        ++pc;
        break;
      case Instruction::kRun:
        goes_on = TakeRun(in, pc, at, text);
        ++pc;
        break;
      case Instruction::kSplit:
        text.frames.push_back({in.target, at, at});
        ++pc;
        break;
      case Instruction::kJump:
        pc = in.target;
        break;
      case Instruction::kAhead: {
        size_t ignored = 0;
        goes_on = MatchFrom(pc + 1, at, text, ignored) != in.negative;
        pc = in.target;
        break;
      }
      case Instruction::kAssert:
        goes_on = Holds(in.assertion, text, at);
        ++pc;
        break;
    }
    if (goes_on) continue;
    if (text.frames.size() == base) return false;
    Frame& frame = text.frames.back();
    pc = frame.pc;
    at = frame.at;
    if (frame.at == frame.floor) {
      text.frames.pop_back();
    } else {
      frame.at = Previous(classes, frame.at);
    }
  }
  text.frames.resize(base);
  return false;
}

// Moves `at` past as many characters of the set as there may be, and leaves a frame to give back.
bool Regex::TakeRun(const Instruction& run, int pc, size_t& at, Text& text) const {
  const std::vector<uint8_t>& classes = text.classes;
  size_t to = at;
  int count = 0;
  while (count < run.min && (masks_[classes[to]] & run.set) != 0) {
    to = Next(classes, to);
    ++count;
  }
  if (count < run.min) return false;
  const size_t floor = to;
  if (run.max == RegexNode::kNoLimit) {
    while ((masks_[classes[to]] & run.set) != 0) ++to;
  } else {
    for (; count < run.max && (masks_[classes[to]] & run.set) != 0; ++count) {
      to = Next(classes, to);
    }
  }
  text.steps -= std::min<uint64_t>(text.steps, to - at);
  at = to;
  const bool is_last = program_[pc + 1].op == Instruction::kMatch;
  if (to > floor && !run.possessive && !is_last) {
    text.frames.push_back({pc + 1, Previous(classes, to), floor});
  }
  return true;
}

// As in Ruby, whose ^ does not hold behind a newline that ends the text.
bool Regex::Holds(RegexNode::Kind assertion, const Text& text, size_t at) const {
  const bool at_end = at + 1 == text.classes.size();
  switch (assertion) {
    case RegexNode::kLineBegin:
      return at == 0 || (!at_end && (masks_[text.classes[at - 1]] & kNewline) != 0 &&
                         text.classes[at - 1] != kContinuation);
    case RegexNode::kLineEnd:
      return at_end || (masks_[text.classes[at]] & kNewline) != 0;
    case RegexNode::kTextBegin:
      return at == 0;
    default:
      return at_end;
  }
}

}  // namespace tandem::text
