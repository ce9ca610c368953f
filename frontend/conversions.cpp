// Static values as integers, numbers, axes and shapes, with messages.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "frontend/emitter.h"
#include "frontend/error_codes.h"

namespace gradc::frontend {

bool Emitter::to_integer(const Value& v, Span span, const std::string& what, int64_t& out) {
  if (v.poisoned()) return false;
  if (v.is(ValueKind::integer)) {
    out = v.integer;
    return true;
  }
  Diagnostic& d = must_be(v, span, what, "an integer");
  if (v.is(ValueKind::number) && v.number == std::trunc(v.number))
    d.helps.push_back("`/` gives a number; `//` divides integers");
  return false;
}

bool Emitter::to_number(const Value& v, Span span, const std::string& what, double& out) {
  if (v.poisoned()) return false;
  if (v.is_static_number()) {
    out = v.as_number();
    return true;
  }
  must_be(v, span, what, "a number known when compiling");
  return false;
}

bool Emitter::to_boolean(const Value& v, Span span, const std::string& what, bool& out) {
  if (v.poisoned()) return false;
  if (v.is(ValueKind::boolean)) {
    out = v.boolean;
    return true;
  }
  must_be(v, span, what, "true or false");
  return false;
}

bool Emitter::to_integers(const Value& v, Span span, const std::string& what, std::vector<int64_t>& out) {
  if (v.poisoned()) return false;
  out.clear();
  if (v.is(ValueKind::range)) {
    if (v.end - v.integer > kMaxList) {
      error(codes::limit, span, fmt::format("{} has more than {} entries", what, kMaxList));
      return false;
    }
    for (int64_t i = v.integer; i < v.end; ++i) out.push_back(i);
    return true;
  }
  if (!v.is(ValueKind::list)) {
    must_be(v, span, what, "a list of integers");
    return false;
  }
  for (const Value& item : *v.list) {
    int64_t i = 0;
    if (!to_integer(item, span, "each entry of " + what, i)) return false;
    out.push_back(i);
  }
  return true;
}

bool Emitter::to_axis(const Value& v, int rank, Span span, int64_t& out) {
  if (!to_integer(v, span, "an axis", out)) return false;
  if (out >= -rank && out < rank) {
    if (out < 0) out += rank;
    return true;
  }
  if (rank == 0)
    error(codes::bad_index, span,
          fmt::format("there is no axis {}: the tensor is one number per example", out))
        .expect("no axis", std::to_string(out));
  else
    error(codes::bad_index, span,
          fmt::format("there is no axis {}: the tensor has axes 0 to {} (or -1 to -{})", out, rank - 1, rank))
        .expect(fmt::format("{} to {}", -rank, rank - 1), std::to_string(out));
  return false;
}

bool Emitter::to_axes(const Value& v, int rank, Span span, std::vector<int64_t>& out) {
  out.clear();
  if (v.is(ValueKind::none)) {
    for (int64_t i = 0; i < rank; ++i) out.push_back(i);
    return true;
  }
  std::vector<int64_t> axes;
  if (v.is(ValueKind::integer))
    axes.push_back(v.integer);
  else if (!to_integers(v, span, "the list of axes", axes))
    return false;
  for (int64_t a : axes) {
    int64_t axis = 0;
    if (!to_axis(Value::of(a), rank, span, axis)) return false;
    if (std::find(out.begin(), out.end(), axis) != out.end()) {
      error(codes::bad_index, span, fmt::format("the axis {} is named twice", a));
      return false;
    }
    out.push_back(axis);
  }
  std::sort(out.begin(), out.end());
  return true;
}

bool Emitter::to_shape(const Value& v, Span span, const std::string& what, Shape& out) {
  if (!to_integers(v, span, what, out)) return false;
  for (int64_t extent : out) {
    if (extent >= 1) continue;
    error(codes::shapes, span, fmt::format("{} holds the extent {}; extents are at least 1", what, extent))
        .expect("an extent of at least 1", std::to_string(extent));
    return false;
  }
  if (fits_limits(out)) return true;
  error(codes::limit, span,
        fmt::format("{} is beyond the limit of {} elements and {} axes", what, kMaxElements, kMaxRank));
  return false;
}

}  // namespace gradc::frontend
