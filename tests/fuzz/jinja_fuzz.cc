// libFuzzer target: whatever the template, parsing and rendering end with text or an error, within
// their bounds. Sanitizers and libFuzzer's limits are the judges.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "common/tokenizer/utf8.h"
#include "router/text/chat_template.h"

namespace {

using Value = tandem::text::JinjaValue;

Value Text(const char* text) { return Value(std::string(text)); }

tandem::text::ChatInput Conversation() {
  tandem::text::ChatInput input;
  const Value arguments(Value::Map{{"x", Value(Value::List{Value(1.5), Value(int64_t{-3})})},
                                   {"items", Value(Value::None{})}});
  const Value call(Value::Map{{"id", Text("c1")}, {"name", Text("f")}, {"arguments", arguments}});
  const Value parts(Value::List{Value(Value::Map{{"type", Text("text")}, {"text", Text("u")}})});
  const auto message = [](const char* role, Value content) {
    return Value::Map{{"role", Text(role)}, {"content", std::move(content)}};
  };
  Value::Map reply = message("assistant", Value(Value::None{}));
  reply.emplace_back("tool_calls", Value(Value::List{call}));
  input.messages = {Value(message("system", Text(" s\xc3\xa9 \n"))), Value(message("user", parts)),
                    Value(std::move(reply)), Value(message("tool", Text("")))};
  input.tools =
      Value(Value::List{Value(Value::Map{{"name", Text("f")}, {"parameters", arguments}})});
  input.arguments = {{"n", Value(int64_t{7})}, {"yes", Value(true)}};
  input.add_generation_prompt = true;
  input.unix_time = 1'000'000'000;
  return input;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const tandem::text::ChatInput input = Conversation();
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const auto chat_template = tandem::text::ChatTemplate::Parse(source, "<bos>", "<eos>");
  if (!chat_template.ok()) return 0;
  const auto text = chat_template->Render(input);
  const bool valid = tandem::text::IsValidUtf8(source);
  if (text.ok() && valid && !tandem::text::IsValidUtf8(*text)) std::abort();
  return 0;
}
