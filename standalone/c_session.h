// What the C interfaces share: how exceptions become statuses, and sessions of any program.
#pragma once
#include <functional>

#include "include/gradc/session.h"
#include "runtime/abi.h"

namespace gradc::standalone {

// Keeps the message for gradc_last_error() and returns the status.
gradc_status failed(gradc_status status, const char* message) noexcept;

// Runs `body` and turns what it throws into a status and a message.
gradc_status guarded(const std::function<void()>& body) noexcept;

// A session of a program, which must outlive it; `image` (may be null) may hold parameters to start from.
gradc_status create_session(const gradc_program& program, int32_t threads, const gradc_image* image,
                            gradc_session** session) noexcept;

}  // namespace gradc::standalone
