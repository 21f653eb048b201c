// What the output of /v1/responses is made of: reasoning, messages, calls of functions, one item
// after the other; and a stream's events of each.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "router/http/generation.h"
#include "router/text/reply_parser.h"

namespace tandem::http {

class ResponseItems final : public text::ReplyHandler {
 public:
  // Borrows the call.
  explicit ResponseItems(const ApiCall& call) : call_(call) {}

  // Where the events of what comes now go; null, and at first: nowhere.
  void StreamTo(std::string* events) { events_ = events; }
  // Ends the last item. Where nothing came the output is an empty message.
  void Finish(std::string_view status);

  const std::string& output() const { return output_; }  // JSON of those that ended, with commas

  // An event: its type and number, and what `members()` appends. The number goes up with each.
  template <class F>
  void AppendEvent(std::string& out, std::string_view type, F&& members) {
    BeginEvent(out, type);
    members();
    out += "}\n\n";
  }

  void OnReasoning(std::string_view text) override;
  void OnContent(std::string_view text) override;
  void OnCall(int index, std::string_view name) override;
  void OnArguments(int index, std::string_view json) override;

 private:
  enum class Kind : uint8_t { kNone, kReasoning, kMessage, kCall };

  void BeginEvent(std::string& out, std::string_view type);
  void Open(Kind kind);
  void Close(std::string_view status);
  void Add(std::string_view event, std::string_view text);
  void AppendId(std::string& out) const;
  void AppendPart(std::string& out, std::string_view text) const;
  void AppendItem(std::string& out, std::string_view status) const;
  void AppendPlace(std::string& out) const;

  const ApiCall& call_;
  std::string* events_ = nullptr;
  std::string output_;
  int next_number_ = 0;  // of events
  int index_ = 0;        // of the item, in the output
  // The item that is open.
  Kind kind_ = Kind::kNone;
  std::string text_;  // or arguments, so far
  std::string name_;  // kCall
  int call_index_ = 0;
};

}  // namespace tandem::http
