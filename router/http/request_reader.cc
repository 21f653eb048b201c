#include "router/http/request_reader.h"

#include <fmt/format.h>

#include <boost/asio/buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

namespace tandem::http {

namespace beast = boost::beast;

struct RequestReader::Parser {
  std::optional<beast::http::request_parser<beast::http::string_body>> beast;
};

namespace {

constexpr size_t kMaxReadBytes = 256 << 10;  // more than one read of a connection brings

std::string ToString(beast::string_view s) { return std::string(s.data(), s.size()); }

ApiError ParseFailure(const boost::system::error_code& ec, int max_header, int64_t max_body) {
  ApiError error;
  if (ec == beast::http::error::header_limit) {
    error = RequestError(431, "header_too_large",
                         fmt::format("the request header is larger than {} bytes", max_header));
  } else if (ec == beast::http::error::body_limit) {
    error = RequestError(413, "body_too_large",
                         fmt::format("the request body is larger than {} bytes", max_body));
  } else {
    error = RequestError(400, "bad_http", fmt::format("this is not HTTP/1.1: {}", ec.message()));
  }
  error.close = true;
  return error;
}

}  // namespace

RequestReader::RequestReader(int max_header_bytes, int64_t max_body_bytes)
    : max_header_bytes_(max_header_bytes),
      max_body_bytes_(max_body_bytes),
      parser_(std::make_unique<Parser>()) {
  Reset();
}

RequestReader::~RequestReader() = default;

void RequestReader::Reset() {
  parser_->beast.emplace();
  parser_->beast->header_limit(static_cast<uint32_t>(max_header_bytes_));
  parser_->beast->body_limit(static_cast<uint64_t>(max_body_bytes_));
  header_seen_ = false;
  request_ = {};
}

// Beast bounds header and body, but neither a chunk's extension nor the trailers, of which nothing
// is consumed until they are complete.
RequestReader::State RequestReader::NeedMore(size_t unconsumed) {
  if (unconsumed <= static_cast<size_t>(max_header_bytes_) + kMaxReadBytes) return State::kNeedMore;
  error_ = ParseFailure(beast::http::error::header_limit, max_header_bytes_, max_body_bytes_);
  return State::kFailed;
}

RequestReader::State RequestReader::Put(std::string_view bytes, size_t& consumed) {
  auto& parser = *parser_->beast;
  consumed = 0;
  while (!parser.is_done() && (consumed < bytes.size() || parser.is_header_done())) {
    boost::system::error_code ec;
    const size_t used =
        parser.put(boost::asio::const_buffer(bytes.data() + consumed, bytes.size() - consumed), ec);
    consumed += used;
    if (ec && ec != beast::http::error::need_more) {
      error_ = ParseFailure(ec, max_header_bytes_, max_body_bytes_);
      return State::kFailed;
    }
    if (parser.is_header_done() && !header_seen_) {
      header_seen_ = true;
      parser.eager(true);
      ReadHeader();
      return State::kHeader;
    }
    if (parser.is_done()) break;
    if (ec == beast::http::error::need_more || used == 0) break;
  }
  if (!parser.is_done()) return NeedMore(bytes.size() - consumed);
  request_.body = std::move(parser.get().body());
  return State::kDone;
}

void RequestReader::ReadHeader() {
  const auto& parser = *parser_->beast;
  const auto& message = parser.get();
  const beast::string_view target = message.target();
  request_.method = ToString(message.method_string());
  request_.path = ToString(target.substr(0, target.find('?')));
  request_.content_type = ToString(message[beast::http::field::content_type]);
  request_.authorization = ToString(message[beast::http::field::authorization]);
  request_.request_id = ToString(message["x-request-id"]);
  request_.timing = ToString(message["x-tandem-timing"]);
  request_.http_1_0 = message.version() < 11;
  request_.keep_alive = message.keep_alive();
  request_.chunked = parser.chunked();
  if (const auto length = parser.content_length()) {
    request_.content_length = static_cast<int64_t>(*length);
  }
  if (const auto expect = message.find(beast::http::field::expect); expect != message.end()) {
    request_.expects_continue = beast::iequals(expect->value(), "100-continue");
    request_.bad_expectation = !request_.expects_continue;
  }
}

}  // namespace tandem::http
