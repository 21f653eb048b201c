#include "common/observe/last_error.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

namespace tandem::observe {
namespace {

constexpr char kName[] = "tandem-last-error";
constexpr size_t kMostBytes = 2000;
int own_fd = -1;

// A program between may have closed the descriptor, and its number be another file's by now.
bool IsOurs(int fd) {
  std::array<char, 64> target{};
  const std::string link = fmt::format("/proc/self/fd/{}", fd);
  const ssize_t size = ::readlink(link.c_str(), target.data(), target.size());
  return size > 0 && std::string_view(target.data(), static_cast<size_t>(size))
                         .starts_with(fmt::format("/memfd:{}", kName));
}

}  // namespace

LastError::LastError() : fd_(::memfd_create(kName, MFD_CLOEXEC)) {}

LastError::~LastError() {
  if (fd_ >= 0) ::close(fd_);
}

std::string LastError::Read() const {
  std::array<char, kMostBytes + 1> text{};
  const ssize_t size = fd_ < 0 ? 0 : ::pread(fd_, text.data(), text.size(), 0);
  const std::string_view all(text.data(), size < 0 ? 0 : static_cast<size_t>(size));
  return std::string(all.substr(0, all.find('\n')));
}

void OpenLastError() {
  if (std::getenv("TANDEM_LAST_ERROR_FD") == nullptr || !IsOurs(LastError::kChildFd)) return;
  own_fd = LastError::kChildFd;
  ::fcntl(own_fd, F_SETFD, FD_CLOEXEC);
}

// One write, and what is behind its end of an earlier one is not read: threads do not mix lines.
void WriteLastError(std::string_view line) {
  if (own_fd < 0) return;
  std::string text(line.substr(0, kMostBytes));
  text += '\n';
  [[maybe_unused]] const ssize_t written = ::pwrite(own_fd, text.data(), text.size(), 0);
}

}  // namespace tandem::observe
