DROP INDEX users_username_c_key;
