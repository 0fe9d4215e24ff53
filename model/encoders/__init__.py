"""User encoders, one a file: a user's last items -> a user vector. `encoders.interface` says what each must do."""
