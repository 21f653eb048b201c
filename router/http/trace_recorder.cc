#include "router/http/trace_recorder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <system_error>
#include <utility>

#include "common/hash.h"
#include "common/observe/log.h"
#include "router/http/json_text.h"

namespace tandem::http {
namespace {

constexpr size_t kBlock = 16;  // tokens a hash stands for; what groups' blocks are multiples of
// A number of JSON holds 53 bits exactly.
constexpr int kDroppedBits = 11;
constexpr int kMostFiles = 10'000;

void AppendHashes(std::string& out, std::string_view seed, std::string_view salt,
                  std::span<const TokenId> prompt) {
  BlockHash hash = RootHash(seed, salt);
  for (size_t at = 0; at + kBlock <= prompt.size(); at += kBlock) {
    hash = HashBlock(hash, prompt.subspan(at, kBlock));
    fmt::format_to(std::back_inserter(out), "{}{}", at == 0 ? "" : ",", hash.low >> kDroppedBits);
  }
}

}  // namespace

StatusOr<std::unique_ptr<TraceRecorder>> TraceRecorder::Open(const std::string& path, Nanos now) {
  std::error_code ignored;  // open() says it better
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  std::string name = path;
  int fd = -1;
  for (int i = 1; i < kMostFiles; ++i) {
    fd = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0 || errno != EEXIST) break;
    name = fmt::format("{}.{}", path, i);
  }
  File file(fd < 0 ? nullptr : ::fdopen(fd, "a"), &std::fclose);
  if (file == nullptr) {
    return InvalidArgument("cannot record a trace in {}: {}; see router.record_trace", name,
                           std::strerror(errno));
  }
  std::unique_ptr<TraceRecorder> recorder(new TraceRecorder(std::move(file), name, now));
  if (!recorder->Write(fmt::format("{{\"tandem_trace\":1,\"block_size\":{}}}\n", kBlock))) {
    return InvalidArgument("cannot write to {}; see router.record_trace", name);
  }
  return recorder;
}

void TraceRecorder::Record(const Request& request) {
  if (file_ == nullptr) return;
  line_.clear();
  fmt::format_to(std::back_inserter(line_),
                 "{{\"timestamp\":{:.3f},\"input_length\":{},\"output_length\":{},\"hash_ids\":[",
                 static_cast<double>(request.arrival - start_) / kMillisecond,
                 request.prompt.size(), request.output_tokens);
  AppendHashes(line_, request.hash_seed, request.cache_salt, request.prompt);
  line_ += "],\"model\":";
  AppendJsonString(line_, request.model);
  line_ += "}\n";
  Write(line_);
}

bool TraceRecorder::Write(const std::string& line) {
  if (std::fwrite(line.data(), 1, line.size(), file_.get()) == line.size() &&
      std::fflush(file_.get()) == 0) {
    return true;
  }
  observe::LogError("recording {} has ended: {}", path_, std::strerror(errno));
  file_.reset();
  return false;
}

}  // namespace tandem::http
