// What goes back to clients whatever the endpoint: heads of HTTP responses, chunks of bodies,
// models.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::http {

// {"object":"list","data":[...]} | one model.
std::string ModelsBody(const std::vector<std::string>& models, int64_t created);
std::string ModelBody(const std::string& model, int64_t created);

struct Head {
  int status = 200;
  std::string_view content_type;  // empty: no body
  std::string_view request_id;    // empty: none
  std::string_view model = {};    // that served; empty: none did
  std::string_view allow;
  int retry_after = 0;
  int64_t content_length = -1;  // -1: not known; then chunked, or until the connection closes
  bool chunked = false;
  bool close = false;
  bool stream = false;  // must not be buffered on its way
};
std::string HeadText(const Head& head);

// `data` as one chunk of a chunked body. The last chunk is AppendChunk of nothing.
void AppendHttpChunk(std::string& out, std::string_view data);

}  // namespace tandem::http
