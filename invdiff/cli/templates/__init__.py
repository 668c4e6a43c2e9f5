"""What `invdiff new-operator` writes; `$name` and `$class_name` are filled in."""
