// libFuzzer target: whatever the template, parsing and rendering end with text or an error, within
// their bounds. Sanitizers and libFuzzer's limits are the judges.
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "router/text/chat_template.h"
#include "router/text/utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using tandem::text::ChatTemplate;
  using tandem::text::Message;
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const auto chat_template = ChatTemplate::Parse(source, "<bos>", "<eos>");
  if (!chat_template.ok()) return 0;
  const std::vector<Message> messages = {{"system", " s\xc3\xa9 "}, {"user", "u"}, {"tool", ""}};
  const auto text = chat_template->Render(messages, true);
  const bool valid = tandem::text::IsValidUtf8(source);
  if (text.ok() && valid && !tandem::text::IsValidUtf8(*text)) std::abort();
  return 0;
}
