// An HTTP client made of a blocking socket, so that tests decide every byte and its moment.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tandem::http {

struct RawResponse {
  int status = 0;                                            // 0: none came
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;                                          // chunked coding taken off
  std::string Header(std::string_view name) const;           // empty: not there
};

class RawClient {
 public:
  // `receive_buffer` 0: the kernel's. Reads give up after 20 s.
  explicit RawClient(int port, int receive_buffer = 0);
  ~RawClient();
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  bool Send(std::string_view bytes);  // false: the connection is gone
  RawResponse Read(bool head_only = false);
  // Reads until the bytes so far contain `text`; returns and forgets all up to its end. Empty: the
  // connection ended first.
  std::string ReadUntil(std::string_view text);
  bool AtEnd();  // waits until the server closes; false: something came instead
  void Close();
  void Reset();  // closes with RST

  static std::string Post(std::string_view path, std::string_view body,
                          std::string_view headers = {});
  static std::string Get(std::string_view path, std::string_view headers = {});

 private:
  bool Fill();  // false: end
  int fd_ = -1;
  std::string in_;
};

}  // namespace tandem::http
