# finds: Deployment/gatefold-nginx: TRUSTED_PROXIES does not name the proxies before it
/TRUSTED_PROXIES: 192\.0\.2\.32/d
