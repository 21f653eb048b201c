// TANDEM_CHECK(condition) << "what held instead": aborts with the message and a stack trace when an
// invariant of ours is broken. Never on user input: that is a Status.
#pragma once

#include <sstream>

namespace tandem::internal {

class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition);
  [[noreturn]] ~CheckFailure();
  std::ostream& stream() { return stream_; }

 private:
  std::ostringstream stream_;
};

struct Voidify {
  void operator&(std::ostream&) const {}
};

}  // namespace tandem::internal

#define TANDEM_CHECK(condition)                 \
  (condition) ? (void)0                         \
              : ::tandem::internal::Voidify() & \
                    ::tandem::internal::CheckFailure(__FILE__, __LINE__, #condition).stream()

#ifdef NDEBUG
#define TANDEM_DCHECK(condition) TANDEM_CHECK(true || (condition))
#else
#define TANDEM_DCHECK(condition) TANDEM_CHECK(condition)
#endif
