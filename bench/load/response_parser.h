// Reads one HTTP/1.1 response from bytes that come in any pieces: head, then a body that is
// chunked, of a given length, or ends with the connection. Interim (1xx) responses are passed over.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tandem::load {

class ResponseParser {
 public:
  static constexpr size_t kMaxHeadBytes = size_t{64} << 10;

  // Appends to `body` what the bytes hold of it. Nothing is read once done() or failed().
  void Feed(std::string_view bytes, std::string& body);
  // The connection has ended: done() if that is how this body ends, else failed().
  void End();

  bool started() const { return state_ != State::kHead || !line_.empty() || has_status_; }
  bool head_read() const { return head_read_; }  // whole, whatever came after
  bool done() const { return state_ == State::kDone; }
  bool failed() const { return state_ == State::kFailed; }
  const char* error() const { return error_; }  // static text, once failed()

  // Valid once head_read().
  int status() const { return status_; }
  bool keep_alive() const { return keep_alive_ && !extra_; }  // false too: bytes past the end
  const std::string& content_type() const { return content_type_; }  // lower case, no parameters

 private:
  enum class State : uint8_t {
    kHead,
    kLength,
    kUntilClose,
    kChunkSize,
    kChunk,
    kChunkEnd,
    kTrailer,
    kDone,
    kFailed
  };

  void Fail(const char* error);
  size_t TakeBody(std::string_view bytes, std::string& body);
  void OnLine(std::string_view line);
  void OnHeadLine(std::string_view line);
  void OnHeader(std::string_view name, std::string_view value);
  void EndHead();
  void OnChunkSize(std::string_view line);

  State state_ = State::kHead;
  std::string line_;  // so far, of the head, a chunk size or a trailer
  size_t head_bytes_ = 0;
  bool has_status_ = false;
  bool head_read_ = false;
  bool keep_alive_ = true;
  bool extra_ = false;
  bool chunked_ = false;
  int status_ = 0;
  int64_t content_length_ = -1;  // -1: none given
  uint64_t left_ = 0;            // of the body or the chunk
  std::string content_type_;
  const char* error_ = "";
};

}  // namespace tandem::load
