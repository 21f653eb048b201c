// libFuzzer target: whatever a tokenizer.json says, it is refused or encodes and decodes text,
// within bounds. Sanitizers and libFuzzer's limits are the judges.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "common/tokenizer/tokenizer.h"
#include "common/tokenizer/tokenizer_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tandem::text;
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  auto spec = ReadTokenizerJson({std::string(source), "", ""});
  if (!spec.ok()) return 0;
  const auto tokenizer = Tokenizer::FromSpec(*std::move(spec), "fuzz");
  if (!tokenizer.ok()) return 0;
  // Its own bytes: among them are its tokens, and often what is not UTF-8.
  const std::string_view text = source.substr(0, 4096);
  for (const bool allow_special : {true, false}) {
    const auto ids = (*tokenizer)->Encode(text, allow_special);
    for (const auto id : ids) {
      if (id < 0 || id >= (*tokenizer)->vocab_size()) std::abort();
    }
    (*tokenizer)->Decode(ids);
  }
  return 0;
}
