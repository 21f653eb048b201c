#include "bench/load/response_parser.h"

#include <algorithm>
#include <charconv>

namespace tandem::load {
namespace {

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  }
  return lower;
}

// The whole of `text` as a number, or false.
template <class T>
bool ReadNumber(std::string_view text, int base, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, base);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

void ResponseParser::Fail(const char* error) {
  state_ = State::kFailed;
  error_ = error;
}

void ResponseParser::Feed(std::string_view bytes, std::string& body) {
  while (!bytes.empty() && !done() && !failed()) {
    if (state_ == State::kLength || state_ == State::kUntilClose || state_ == State::kChunk) {
      bytes.remove_prefix(TakeBody(bytes, body));
      continue;
    }
    const size_t end = bytes.find('\n');
    line_ += bytes.substr(0, end);
    if (line_.size() + head_bytes_ > kMaxHeadBytes) return Fail("a head or chunk line too long");
    if (end == std::string_view::npos) return;
    bytes.remove_prefix(end + 1);
    std::string line = std::move(line_);
    line_.clear();
    if (line.ends_with('\r')) line.pop_back();
    OnLine(line);
  }
  if (done() && !bytes.empty()) extra_ = true;
}

void ResponseParser::End() {
  if (state_ == State::kUntilClose) {
    state_ = State::kDone;
  } else if (!done() && !failed()) {
    Fail(head_read() ? "the connection ended within the body" : "the connection ended in the head");
  }
}

size_t ResponseParser::TakeBody(std::string_view bytes, std::string& body) {
  if (state_ == State::kUntilClose) {
    body += bytes;
    return bytes.size();
  }
  const size_t n = std::min<uint64_t>(bytes.size(), left_);
  body += bytes.substr(0, n);
  left_ -= n;
  if (left_ == 0) state_ = state_ == State::kChunk ? State::kChunkEnd : State::kDone;
  return n;
}

void ResponseParser::OnLine(std::string_view line) {
  switch (state_) {
    case State::kHead:
      return OnHeadLine(line);
    case State::kChunkSize:
      return OnChunkSize(line);
    case State::kChunkEnd:
      state_ = State::kChunkSize;
      if (!line.empty()) Fail("no line end after a chunk");
      return;
    default:  // kTrailer: what it says is not needed
      if (line.empty()) state_ = State::kDone;
      return;
  }
}

void ResponseParser::OnHeadLine(std::string_view line) {
  head_bytes_ += line.size();
  if (!has_status_) {
    // "HTTP/1.1 200 OK", the reason may be missing.
    const bool form = line.size() >= 12 && line.starts_with("HTTP/1.") && line[8] == ' ';
    if (!form || !ReadNumber(line.substr(9, 3), 10, status_) || status_ < 100) {
      return Fail("not an HTTP/1 response");
    }
    has_status_ = true;
    keep_alive_ = line[7] != '0';
    return;
  }
  if (line.empty()) return EndHead();
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return Fail("a header without a colon");
  OnHeader(Lower(line.substr(0, colon)), Trim(line.substr(colon + 1)));
}

void ResponseParser::OnHeader(std::string_view name, std::string_view value) {
  if (name == "content-length") {
    if (!ReadNumber(value, 10, content_length_) || content_length_ < 0) {
      Fail("a content-length that is no number");
    }
  } else if (name == "transfer-encoding") {
    chunked_ = Lower(value) == "chunked";
    if (!chunked_) Fail("a transfer-encoding other than chunked");
  } else if (name == "connection") {
    const std::string lower = Lower(value);
    if (lower.find("close") != std::string::npos) keep_alive_ = false;
    if (lower.find("keep-alive") != std::string::npos) keep_alive_ = true;
  } else if (name == "content-type") {
    content_type_ = Lower(Trim(value.substr(0, value.find(';'))));
  }
}

void ResponseParser::EndHead() {
  head_bytes_ = 0;
  if (status_ < 200) {
    has_status_ = false;
    return;
  }
  head_read_ = true;
  if (status_ == 204 || status_ == 304) {
    state_ = State::kDone;
  } else if (chunked_) {
    state_ = State::kChunkSize;
  } else if (content_length_ >= 0) {
    left_ = static_cast<uint64_t>(content_length_);
    state_ = left_ == 0 ? State::kDone : State::kLength;
  } else {
    state_ = State::kUntilClose;
    keep_alive_ = false;
  }
}

void ResponseParser::OnChunkSize(std::string_view line) {
  const std::string_view size = Trim(line.substr(0, line.find(';')));
  if (!ReadNumber(size, 16, left_)) return Fail("a chunk size that is no number");
  state_ = left_ == 0 ? State::kTrailer : State::kChunk;
}

}  // namespace tandem::load
