#include "router/http/response_items.h"

#include <fmt/format.h>

#include <iterator>

#include "router/http/chat_reply.h"
#include "router/http/json_text.h"

namespace tandem::http {
namespace {

constexpr std::string_view kInProgress = "in_progress";

void AppendText(std::string& out, std::string_view name, std::string_view text) {
  fmt::format_to(std::back_inserter(out), ",\"{}\":", name);
  AppendJsonString(out, text);
}

}  // namespace

void ResponseItems::BeginEvent(std::string& out, std::string_view type) {
  fmt::format_to(std::back_inserter(out),
                 "event: {}\ndata: {{\"type\":\"{}\",\"sequence_number\":{}", type, type,
                 next_number_++);
}

void ResponseItems::AppendId(std::string& out) const {
  constexpr std::string_view kPrefixes[] = {"", "rs", "msg", "fc"};
  fmt::format_to(std::back_inserter(out), "\"{}_{}", kPrefixes[static_cast<int>(kind_)],
                 call_.request_id);
  if (index_ > 0) fmt::format_to(std::back_inserter(out), "_{}", index_);
  out += '"';
}

void ResponseItems::AppendPart(std::string& out, std::string_view text) const {
  const bool message = kind_ == Kind::kMessage;
  out += message ? R"({"type":"output_text","text":)" : R"({"type":"reasoning_text","text":)";
  AppendJsonString(out, text);
  out += message ? R"(,"annotations":[],"logprobs":[]})" : "}";
}

// In progress it has no content yet.
void ResponseItems::AppendItem(std::string& out, std::string_view status) const {
  constexpr std::string_view kTypes[] = {"", "reasoning", "message", "function_call"};
  fmt::format_to(std::back_inserter(out), R"({{"type":"{}","id":)",
                 kTypes[static_cast<int>(kind_)]);
  AppendId(out);
  fmt::format_to(std::back_inserter(out), R"(,"status":"{}")", status);
  if (kind_ == Kind::kCall) {
    AppendText(out, "call_id", CallId(call_.generations.front(), call_index_));
    AppendText(out, "name", name_);
    AppendText(out, "arguments", text_);
  } else {
    out += kind_ == Kind::kMessage ? R"(,"role":"assistant","content":[)"
                                   : R"(,"summary":[],"content":[)";
    if (status != kInProgress) AppendPart(out, text_);
    out += ']';
  }
  out += '}';
}

void ResponseItems::AppendPlace(std::string& out) const {
  out += ",\"item_id\":";
  AppendId(out);
  fmt::format_to(std::back_inserter(out), ",\"output_index\":{}", index_);
  if (kind_ != Kind::kCall) out += ",\"content_index\":0";
}

void ResponseItems::Open(Kind kind) {
  if (kind == kind_ && kind != Kind::kCall) return;
  if (kind_ != Kind::kNone) Close("completed");
  kind_ = kind;
  text_.clear();
  if (events_ == nullptr) return;
  std::string& out = *events_;
  AppendEvent(out, "response.output_item.added", [&] {
    fmt::format_to(std::back_inserter(out), ",\"output_index\":{},\"item\":", index_);
    AppendItem(out, kInProgress);
  });
  if (kind_ == Kind::kCall) return;
  AppendEvent(out, "response.content_part.added", [&] {
    AppendPlace(out);
    out += ",\"part\":";
    AppendPart(out, {});
  });
}

void ResponseItems::Close(std::string_view status) {
  if (events_ != nullptr) {
    std::string& out = *events_;
    constexpr std::string_view kDone[] = {"", "response.reasoning_text.done",
                                          "response.output_text.done",
                                          "response.function_call_arguments.done"};
    AppendEvent(out, kDone[static_cast<int>(kind_)], [&] {
      AppendPlace(out);
      if (kind_ == Kind::kCall) AppendText(out, "name", name_);
      AppendText(out, kind_ == Kind::kCall ? "arguments" : "text", text_);
      if (kind_ == Kind::kMessage) out += ",\"logprobs\":[]";
    });
    if (kind_ != Kind::kCall) {
      AppendEvent(out, "response.content_part.done", [&] {
        AppendPlace(out);
        out += ",\"part\":";
        AppendPart(out, text_);
      });
    }
    AppendEvent(out, "response.output_item.done", [&] {
      fmt::format_to(std::back_inserter(out), ",\"output_index\":{},\"item\":", index_);
      AppendItem(out, status);
    });
  }
  if (!output_.empty()) output_ += ',';
  AppendItem(output_, status);
  ++index_;
  kind_ = Kind::kNone;
}

void ResponseItems::Add(std::string_view event, std::string_view text) {
  text_ += text;
  if (events_ == nullptr) return;
  std::string& out = *events_;
  AppendEvent(out, event, [&] {
    AppendPlace(out);
    AppendText(out, "delta", text);
    if (kind_ == Kind::kMessage) out += ",\"logprobs\":[]";
  });
}

void ResponseItems::OnReasoning(std::string_view text) {
  Open(Kind::kReasoning);
  Add("response.reasoning_text.delta", text);
}

void ResponseItems::OnContent(std::string_view text) {
  Open(Kind::kMessage);
  Add("response.output_text.delta", text);
}

void ResponseItems::OnCall(int index, std::string_view name) {
  if (kind_ != Kind::kNone) Close("completed");
  name_ = name;
  call_index_ = index;
  Open(Kind::kCall);
}

void ResponseItems::OnArguments(int /*of the last call*/, std::string_view json) {
  Add("response.function_call_arguments.delta", json);
}

void ResponseItems::Finish(std::string_view status) {
  if (kind_ == Kind::kNone && output_.empty()) Open(Kind::kMessage);
  if (kind_ != Kind::kNone) Close(status);
}

}  // namespace tandem::http
