# finds: Deployment/gatefold-ws: TRUSTED_PROXIES: 172.16.0.0/12 is more than the network of a proxy
s|TRUSTED_PROXIES: 192\.0\.2\.48/28|TRUSTED_PROXIES: 172.16.0.0/12|
