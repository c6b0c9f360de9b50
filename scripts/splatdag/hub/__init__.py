"""Publication on the Hugging Face Hub; owns the section `sharing` of the config."""
