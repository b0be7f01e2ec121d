# finds: Deployment/gatefold-api: could rewrite the audit: it is the owner of the schema
s|name: DATABASE_URL$|name: DATABASE_OWNER_URL|
