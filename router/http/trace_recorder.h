// Writes what comes as a trace that `tandem simulate` and `tandem bench` replay: JSON lines, the
// first of which says {"tandem_trace": 1, "block_size": N}, the others one request each, when it
// ended: arrival in milliseconds since the first line, lengths in tokens, a hash for each full
// block of the prompt. Equal prefixes have equal hashes; no text and no token is written.
//
// Requests that got no token are left out: how long their reply would have been is not known.
//
// Thread: the I/O thread.
#pragma once

#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "common/ids.h"
#include "common/status.h"

namespace tandem::http {

class TraceRecorder {
 public:
  // Never writes into a file that is there: the recording goes to `path`, or the first of path.1,
  // path.2, ... that is free. Makes the folder.
  static StatusOr<std::unique_ptr<TraceRecorder>> Open(const std::string& path, Nanos now);

  struct Request {
    Nanos arrival = 0;  // same clock as `now` of Open
    std::string_view model;
    std::string_view hash_seed;  // of the model: prompts of two never share
    std::span<const TokenId> prompt;
    int32_t output_tokens = 0;  // at least 1
    std::string_view cache_salt = {};
  };
  // On the disk when it returns, as far as the system's cache. A failure (disk full) is logged and
  // ends the recording.
  void Record(const Request& request);

  const std::string& path() const { return path_; }

 private:
  using File = std::unique_ptr<FILE, int (*)(FILE*)>;
  TraceRecorder(File file, std::string path, Nanos start)
      : file_(std::move(file)), path_(std::move(path)), start_(start) {}
  bool Write(const std::string& line);

  File file_;  // null: the recording has ended
  const std::string path_;
  const Nanos start_;
  std::string line_;  // reused
};

}  // namespace tandem::http
