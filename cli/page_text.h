// The files of cli/page/, embedded when building.
#pragma once

namespace gradc::cli {

// Shared by all pages.
extern const char* const kCommonStyle;
extern const char* const kCommonScript;

extern const char* const kInspectPage;
extern const char* const kInspectStyle;
extern const char* const kInspectScript;

extern const char* const kRecipePage;
extern const char* const kRecipeStyle;
extern const char* const kRecipeScript;

}  // namespace gradc::cli
