// The owner's plain-HTTP name for CRLs, OCSP answers and CA certificates. RFC 5280 section 8 and RFC 6960 appendix A say
// why it is not HTTPS: who checks a certificate must not need another one first. Nothing else of the app is reachable
// here, and Front Door itself asks the app over HTTPS.
param tags object
param token string

@description('The name that stands in certificates, such as pki.example.com.')
param hostName string

@description('Host name of the app that answers.')
param originHostName string

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

resource group 'Microsoft.Cdn/profiles/originGroups@2025-12-01' = {
  parent: profile
  name: 'status'
  properties: {
    sessionAffinityState: 'Disabled'
    loadBalancingSettings: {
      sampleSize: 4
      successfulSamplesRequired: 3
      additionalLatencyInMilliseconds: 50
    }
  }
}

resource origin 'Microsoft.Cdn/profiles/originGroups/origins@2025-12-01' = {
  parent: group
  name: 'app'
  properties: {
    hostName: originHostName
    originHostHeader: originHostName
    httpPort: 80
    httpsPort: 443
    priority: 1
    weight: 1000
    enabledState: 'Enabled'
    enforceCertificateNameCheck: true
  }
}

// Lists and CA certificates say themselves how long they may be kept (Cache-Control).
resource files 'Microsoft.Cdn/profiles/afdEndpoints/routes@2025-12-01' = {
  parent: endpoint
  name: 'files'
  dependsOn: [
    origin
  ]
  properties: {
    originGroup: {
      id: group.id
    }
    customDomains: [
      {
        id: domain.id
      }
    ]
    patternsToMatch: [
      '/api/crl/*'
      '/api/ca/*'
    ]
    supportedProtocols: [
      'Http'
      'Https'
    ]
    httpsRedirect: 'Disabled'
    forwardingProtocol: 'HttpsOnly'
    linkToDefaultDomain: 'Disabled'
    enabledState: 'Enabled'
    cacheConfiguration: {
      queryStringCachingBehavior: 'IgnoreQueryString'
    }
  }
}

// An OCSP answer is for one request, most of them a POST: nothing is kept here.
resource ocsp 'Microsoft.Cdn/profiles/afdEndpoints/routes@2025-12-01' = {
  parent: endpoint
  name: 'ocsp'
  dependsOn: [
    origin
  ]
  properties: {
    originGroup: {
      id: group.id
    }
    customDomains: [
      {
        id: domain.id
      }
    ]
    patternsToMatch: [
      '/api/ocsp/*'
    ]
    supportedProtocols: [
      'Http'
      'Https'
    ]
    httpsRedirect: 'Disabled'
    forwardingProtocol: 'HttpsOnly'
    linkToDefaultDomain: 'Disabled'
    enabledState: 'Enabled'
  }
}

output endpointHostName string = endpoint.properties.hostName
output domainValidation string = domain.properties.validationProperties.validationToken
