DROP INDEX events_user_kind_key;
