// Splits the text of a reply into what the model thinks, what it says and which tools it calls, as
// it comes. However the text is cut over calls of Push, all that the handler hears, put together,
// is the same.
//
// What begins as a call and turns out not to be one is content; nothing is lost. It is a call once
// its name is complete and its arguments begin; what comes then is handed on as the model writes
// it, valid JSON or not. White space around calls, and what else stands in their objects, is left
// out.
//
// Thread: one per reply. Memory: what may still be a mark or the beginning of a call (at most
// kMaxWaitingBytes) and one push; no allocation once that is there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "router/text/reply_syntax.h"

namespace tandem::text {

// Hears of a reply, in its order. Views are valid within the call, and not empty.
class ReplyHandler {
 public:
  virtual ~ReplyHandler() = default;
  virtual void OnReasoning(std::string_view text) = 0;
  virtual void OnContent(std::string_view text) = 0;
  virtual void OnCall(int index, std::string_view name) = 0;       // 0, 1, ...
  virtual void OnArguments(int index, std::string_view json) = 0;  // pieces, of the last call
};

class ReplyParser {
 public:
  static constexpr size_t kMaxHeadBytes = 8192;  // of a call before its arguments
  static constexpr size_t kMaxSpace = 256;       // of white space that waits for what follows it
  static constexpr size_t kMaxWaitingBytes = kMaxHeadBytes + kMaxSpace + 32;  // and a mark

  struct Options {
    const ReasoningMarks* reasoning = nullptr;  // null: all is said
    bool reasoning_begun = false;               // the prompt ends within it
    const ToolFormat* tools = nullptr;          // null: nothing is called
    // Of the tools there are. Without a mark only these make a call. Borrowed.
    std::span<const std::string> names = {};
    bool bare = false;      // no mark is needed, whatever the format says
    bool one_call = false;  // the others are left out
  };
  explicit ReplyParser(const Options& options);

  void Push(std::string_view text, ReplyHandler& handler);
  void Finish(ReplyHandler& handler);  // once, last

  int num_calls() const { return num_calls_; }  // that the handler heard of
  // What came last is of what the model thinks, or will be if nothing more comes.
  bool is_reasoning() const {
    return state_ == State::kReasoning || (state_ == State::kOpening && options_.reasoning_begun);
  }
  size_t num_waiting_bytes() const { return buffer_.size(); }

 private:
  enum class State : uint8_t {
    kOpening,  // before what may be the mark of reasoning
    kReasoning,
    kStart,  // before what may be a call without a mark
    kText,
    kHead,  // in a call whose arguments have not begun
    kArguments,
    kTail,   // in the object of a call, behind its arguments
    kAfter,  // behind a call
  };

  std::string_view rest() const { return std::string_view(buffer_).substr(at_); }
  void Run(ReplyHandler& handler);
  // Each: false if it needs more text.
  bool Step(ReplyHandler& handler);
  bool Opening();
  bool Reasoning(ReplyHandler& handler);
  bool Start();
  bool Text(ReplyHandler& handler);
  bool Head(ReplyHandler& handler);
  bool Arguments(ReplyHandler& handler);
  bool Tail();
  bool After();
  bool Separator();
  void EmitContent(size_t size, ReplyHandler& handler);
  void EmitCall(std::string_view name, ReplyHandler& handler);
  void EmitArguments(std::string_view json, ReplyHandler& handler);

  Options options_;
  State state_ = State::kOpening;
  bool last_ = false;   // no more text will come
  std::string buffer_;  // what was pushed and is not done with, from at_ on
  size_t at_ = 0;
  size_t lead_ = 0;        // kHead: bytes before the JSON, with the mark
  bool marked_ = false;    // kHead: behind a mark
  bool open_ = false;      // the mark at the end is still to come
  bool in_list_ = false;   // of calls
  bool in_object_ = true;  // the call's arguments are a member of its object
  int depth_ = 0;          // kArguments
  bool in_string_ = false, escaped_ = false;
  bool called_ = false;  // there was a call
  int num_found_ = 0, num_calls_ = 0;
};

}  // namespace tandem::text
