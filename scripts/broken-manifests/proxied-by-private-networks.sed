# finds: Deployment/gatefold-nginx: TRUSTED_PROXIES: 10.0.0.0/8 is more than the network of a proxy
s|TRUSTED_PROXIES: 192\.0\.2\.32/28|TRUSTED_PROXIES: 10.1.0.0/16,10.0.0.0/8|
