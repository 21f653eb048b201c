#include "tests/router/http/raw_client.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>

namespace tandem::http {

std::string RawResponse::Header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

RawClient::RawClient(int port, int receive_buffer) {
  fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (receive_buffer > 0) {
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
  }
  const timeval patience{.tv_sec = 20, .tv_usec = 0};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  const int one = 1;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
}

RawClient::~RawClient() { Close(); }

void RawClient::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

void RawClient::Reset() {
  const linger now{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  Close();
}

bool RawClient::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

bool RawClient::Fill() {
  char buffer[8192];
  const ssize_t n = recv(fd_, buffer, sizeof(buffer), 0);
  if (n <= 0) return false;
  in_.append(buffer, static_cast<size_t>(n));
  return true;
}

std::string RawClient::ReadUntil(std::string_view text) {
  size_t at;
  while ((at = in_.find(text)) == std::string::npos) {
    if (!Fill()) return {};
  }
  std::string out = in_.substr(0, at + text.size());
  in_.erase(0, at + text.size());
  return out;
}

RawResponse RawClient::Read(bool head_only) {
  RawResponse response;
  const std::string head = ReadUntil("\r\n\r\n");
  if (head.size() < 12) return response;
  std::from_chars(head.data() + 9, head.data() + 12, response.status);
  size_t at = head.find("\r\n") + 2;
  while (at + 2 < head.size()) {
    const size_t end = head.find("\r\n", at);
    const std::string line = head.substr(at, end - at);
    const size_t colon = line.find(": ");
    if (colon != std::string::npos) {
      std::string name = line.substr(0, colon);
      std::transform(name.begin(), name.end(), name.begin(),
                     [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      response.headers.emplace_back(name, line.substr(colon + 2));
    }
    at = end + 2;
  }
  if (head_only || response.status == 204 || response.status == 100) return response;
  if (response.Header("transfer-encoding") == "chunked") {
    while (true) {
      const std::string size_line = ReadUntil("\r\n");
      if (size_line.empty()) break;
      const size_t size = std::stoul(size_line, nullptr, 16);
      while (in_.size() < size + 2 && Fill()) {
      }
      response.body += in_.substr(0, size);
      in_.erase(0, size + 2);
      if (size == 0) break;
    }
  } else if (const std::string length = response.Header("content-length"); !length.empty()) {
    const size_t size = std::stoul(length);
    while (in_.size() < size && Fill()) {
    }
    response.body = in_.substr(0, size);
    in_.erase(0, size);
  } else {
    while (Fill()) {
    }
    response.body = std::exchange(in_, {});
  }
  return response;
}

bool RawClient::AtEnd() {
  if (!in_.empty()) return false;
  char byte;
  return recv(fd_, &byte, 1, 0) <= 0;
}

std::string RawClient::Post(std::string_view path, std::string_view body,
                            std::string_view headers) {
  return fmt::format(
      "POST {} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n{}Content-Length: "
      "{}\r\n\r\n{}",
      path, headers, body.size(), body);
}

std::string RawClient::Get(std::string_view path, std::string_view headers) {
  return fmt::format("GET {} HTTP/1.1\r\nHost: t\r\n{}\r\n", path, headers);
}

}  // namespace tandem::http
