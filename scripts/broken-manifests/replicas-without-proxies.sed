# finds: Deployment/gatefold-api: TRUSTED_PROXIES does not name the proxies before it
/TRUSTED_PROXIES: 192\.0\.2\.48/d
