#include "router/text/reply_parser.h"

#include <algorithm>

#include "router/text/call_head.h"

namespace tandem::text {
namespace {

// Of the longest end of `text` that `mark` begins with; not all of it.
size_t PartialSize(std::string_view text, std::string_view mark) {
  if (mark.empty()) return 0;
  for (size_t size = std::min(text.size(), mark.size() - 1); size > 0; --size) {
    if (text.ends_with(mark.substr(0, size))) return size;
  }
  return 0;
}

// `text` without the white space at its end, or without as much of it as may wait.
size_t TrimmedSize(std::string_view text) {
  const size_t end = text.find_last_not_of(" \n\r\t");
  const size_t size = end == text.npos ? 0 : end + 1;
  return std::max(size, text.size() - std::min(text.size(), ReplyParser::kMaxSpace));
}

}  // namespace

ReplyParser::ReplyParser(const Options& options)
    : options_(options), state_(options.reasoning == nullptr ? State::kStart : State::kOpening) {}

void ReplyParser::Push(std::string_view text, ReplyHandler& handler) {
  buffer_.append(text);
  Run(handler);
}

void ReplyParser::Finish(ReplyHandler& handler) {
  last_ = true;
  Run(handler);
}

void ReplyParser::Run(ReplyHandler& handler) {
  while (Step(handler)) {
  }
  buffer_.erase(0, at_);
  at_ = 0;
}

bool ReplyParser::Step(ReplyHandler& handler) {
  switch (state_) {
    case State::kOpening:
      return Opening();
    case State::kReasoning:
      return Reasoning(handler);
    case State::kStart:
      return Start();
    case State::kText:
      return Text(handler);
    case State::kHead:
      return Head(handler);
    case State::kArguments:
      return Arguments(handler);
    case State::kTail:
      return Tail();
    case State::kAfter:
      return After();
  }
  return false;
}

// The mark is there, or may still come, or does not come.
bool ReplyParser::Opening() {
  const std::string_view text = rest(), begin = options_.reasoning->begin;
  const size_t space = SpaceSize(text.substr(0, kMaxSpace));
  const std::string_view after = text.substr(space);
  if (space < kMaxSpace && after.starts_with(begin)) {
    at_ += space + begin.size();
    state_ = State::kReasoning;
    return true;
  }
  if (!last_ && space < kMaxSpace && begin.starts_with(after)) return false;
  state_ = options_.reasoning_begun ? State::kReasoning : State::kStart;
  return true;
}

bool ReplyParser::Reasoning(ReplyHandler& handler) {
  const std::string_view text = rest(), end = options_.reasoning->end;
  const size_t found = text.find(end);
  const bool ends = found != text.npos;
  const size_t size = ends ? found : text.size() - (last_ ? 0 : PartialSize(text, end));
  if (size > 0) handler.OnReasoning(text.substr(0, size));
  at_ += size + (ends ? end.size() : 0);
  if (ends) state_ = State::kStart;
  return ends;
}

bool ReplyParser::Start() {
  state_ = State::kText;
  if (options_.tools == nullptr || !(options_.bare || options_.tools->bare)) return true;
  const std::string_view text = rest();
  const size_t space = SpaceSize(text.substr(0, kMaxSpace));
  if (space == text.size() && !last_ && space < kMaxSpace) {
    state_ = State::kStart;
    return false;
  }
  if (space < std::min(text.size(), kMaxSpace) && (text[space] == '{' || text[space] == '[')) {
    state_ = State::kHead;
    lead_ = space;
    marked_ = false;
  }
  return true;
}

bool ReplyParser::Text(ReplyHandler& handler) {
  const std::string_view text = rest();
  if (options_.tools == nullptr) {
    EmitContent(text.size(), handler);
    return false;
  }
  const std::string_view begin = options_.tools->begin;
  const size_t found = begin.empty() ? text.npos : text.find(begin);
  if (found != text.npos) {
    const size_t size = TrimmedSize(text.substr(0, found));
    EmitContent(size, handler);
    lead_ = found - size + begin.size();
    marked_ = true;
    open_ = in_list_ = false;
    state_ = State::kHead;
    return true;
  }
  const size_t certain = text.size() - (last_ ? 0 : PartialSize(text, begin));
  // Behind a call the space at the end is around it.
  const bool all = last_ && !called_;
  EmitContent(all ? certain : TrimmedSize(text.substr(0, certain)), handler);
  if (last_) at_ = buffer_.size();
  return false;
}

bool ReplyParser::Head(ReplyHandler& handler) {
  const std::string_view text = rest().substr(lead_, kMaxHeadBytes);
  const CallHead head = ReadCallHead(text, options_.tools->named && marked_);
  using Kind = CallHead::Kind;
  if (head.kind == Kind::kMore && !last_ && text.size() < kMaxHeadBytes) return false;
  const auto known = [&] {
    return std::find(options_.names.begin(), options_.names.end(), head.name) !=
           options_.names.end();
  };
  const bool has_arguments = !head.whole || !head.arguments.empty();
  if (head.kind != Kind::kCall || (!marked_ && !(has_arguments && known()))) {
    if (marked_) EmitContent(lead_, handler);
    state_ = State::kText;
    return true;
  }
  EmitCall(head.name, handler);
  if (head.whole) EmitArguments(has_arguments ? head.arguments : "{}", handler);
  in_list_ = in_list_ || head.in_list;
  in_object_ = head.in_object;
  open_ = open_ || (marked_ && !options_.tools->end.empty());
  at_ += lead_ + head.end;
  depth_ = 0;
  state_ = head.whole ? State::kAfter : State::kArguments;
  return true;
}

bool ReplyParser::Arguments(ReplyHandler& handler) {
  const std::string_view text = rest();
  size_t size = 0;
  bool done = false;
  while (size < text.size() && !done) {
    const char c = text[size++];
    if (in_string_) {
      if (!escaped_ && c == '"') in_string_ = false;
      escaped_ = !escaped_ && c == '\\';
    } else if (c == '"') {
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      ++depth_;
    } else if (c == '}' || c == ']') {
      done = --depth_ == 0;
    }
  }
  if (size > 0) EmitArguments(text.substr(0, size), handler);
  at_ += size;
  if (done) state_ = in_object_ ? State::kTail : State::kAfter;
  return done;
}

bool ReplyParser::Tail() {
  const std::string_view text = rest().substr(0, kMaxHeadBytes);
  const size_t size = CallTailSize(text);
  if (size == text.npos) {
    if (last_) {  // it was cut off: what there is of it says nothing
      at_ = buffer_.size();
      return false;
    }
    if (text.size() < kMaxHeadBytes) return false;
  } else {
    at_ += size;
  }
  state_ = State::kAfter;
  return true;
}

// Whether another call of the same list, or behind the same mark, follows; or may.
bool ReplyParser::Separator() {
  const std::string_view text = rest();
  const bool mark = text[0] == ',' || text[0] == ';';
  const size_t space = mark ? 1 + SpaceSize(text.substr(1, kMaxSpace)) : 0;
  if (space == text.size() && space <= kMaxSpace && !last_) return false;
  state_ = State::kText;
  if (space <= kMaxSpace && space < text.size() && text[space] == '{') {
    at_ += space;
    lead_ = 0;
    // As good as the call before it: marks stand before the first one only.
    marked_ = in_list_ ? marked_ : open_;
    state_ = State::kHead;
  }
  return true;
}

bool ReplyParser::After() {
  at_ += SpaceSize(rest());
  const std::string_view text = rest();
  if (text.empty()) return false;
  const std::string_view end = options_.tools->end;
  if (in_list_ && text[0] == ']') {
    in_list_ = false;
    ++at_;
    return true;
  }
  if (open_) {
    if (text[0] == '}') {  // one too many, which models write
      ++at_;
      return true;
    }
    if (text.starts_with(end)) {
      open_ = in_list_ = false;
      at_ += end.size();
      return true;
    }
    if (!last_ && end.starts_with(text)) return false;
  }
  const bool may_follow = in_list_ || open_ || options_.bare || options_.tools->bare;
  if (may_follow && (text[0] == ',' || text[0] == ';' || text[0] == '{')) return Separator();
  state_ = State::kText;
  return true;
}

void ReplyParser::EmitContent(size_t size, ReplyHandler& handler) {
  if (size > 0) handler.OnContent(rest().substr(0, size));
  at_ += size;
}

void ReplyParser::EmitCall(std::string_view name, ReplyHandler& handler) {
  called_ = true;
  if (++num_found_ > 1 && options_.one_call) return;
  handler.OnCall(num_calls_++, name);
}

void ReplyParser::EmitArguments(std::string_view json, ReplyHandler& handler) {
  if (num_found_ == num_calls_) handler.OnArguments(num_calls_ - 1, json);
}

}  // namespace tandem::text
