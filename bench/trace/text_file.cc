#include "bench/trace/text_file.h"

#include <zlib.h>

#include <cerrno>
#include <cstring>
#include <memory>

namespace tandem::trace {

StatusOr<std::string> ReadText(const std::string& path) {
  // Reads plain files too.
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (file == nullptr) return InvalidArgument("{}: {}", path, std::strerror(errno));
  std::string text;
  char buffer[1 << 16];
  int got = 0;
  while ((got = gzread(file.get(), buffer, sizeof(buffer))) > 0) {
    text.append(buffer, static_cast<size_t>(got));
  }
  int error = Z_OK;
  const char* message = gzerror(file.get(), &error);
  if (error != Z_OK && error != Z_STREAM_END) {
    return InvalidArgument("{}: cannot be read: {}", path,
                           error == Z_ERRNO ? std::strerror(errno) : message);
  }
  return text;
}

}  // namespace tandem::trace
