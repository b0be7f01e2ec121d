DROP TRIGGER users_lock_change ON users;
DROP FUNCTION lock_user_change();
