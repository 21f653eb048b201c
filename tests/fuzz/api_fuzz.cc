// libFuzzer target: whatever the body of a request, it is read or refused with a message that is
// valid UTF-8, within the parser's bounds. The first byte chooses the endpoint.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "router/http/json_text.h"
#include "router/http/openai_request.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tandem::http;
  if (size == 0) return 0;
  static constexpr std::array kEndpoints = {Endpoint::kChat,      Endpoint::kCompletions,
                                            Endpoint::kTokenize,  Endpoint::kDetokenize,
                                            Endpoint::kResponses, Endpoint::kEmbeddings};
  ApiRequest request;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto error = ParseRequest(kEndpoints[data[0] % kEndpoints.size()], body, request);
  if (error) {
    if (error->message.empty() || error->status != 400) std::abort();
    if (FindInvalidUtf8(ErrorJson(*error)) != std::string_view::npos) std::abort();
  } else if (request.num_prompts() == 0) {
    std::abort();
  }
  return 0;
}
