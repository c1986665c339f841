// The owner's plain-HTTP name for CRLs, OCSP answers and CA certificates. RFC 5280 section 8 and RFC 6960 appendix A say
// why it is not HTTPS: who checks a certificate must not need another one first. Nothing else of the app is reachable
// here, and Front Door itself asks the app over HTTPS.
param tags object
param token string

@description('The name that stands in certificates, such as pki.example.com.')
param hostName string

resource profile 'Microsoft.Cdn/profiles@2025-12-01' = {
  name: 'afd-${token}'
  location: 'global'
  tags: tags
  sku: {
    name: 'Standard_AzureFrontDoor'
  }
  properties: {
    originResponseTimeoutSeconds: 60
  }
}

resource endpoint 'Microsoft.Cdn/profiles/afdEndpoints@2025-12-01' = {
  parent: profile
  name: 'pki-${token}'
  location: 'global'
  tags: tags
  properties: {
    enabledState: 'Enabled'
  }
}

resource domain 'Microsoft.Cdn/profiles/customDomains@2025-12-01' = {
  parent: profile
  name: replace(hostName, '.', '-')
  properties: {
    hostName: hostName
    tlsSettings: {
      certificateType: 'ManagedCertificate'
      minimumTlsVersion: 'TLS12'
    }
  }
}

output profileName string = profile.name
output frontDoorId string = profile.properties.frontDoorId
output endpointName string = endpoint.name
output endpointHostName string = endpoint.properties.hostName
output domainId string = domain.id
output domainValidation string = domain.properties.validationProperties.validationToken
