// What goes through Front Door: CRLs, CA certificates and OCSP. It asks the app over HTTPS.
param profileName string
param endpointName string
param domainId string

@description('Host name of the app that answers.')
param originHostName string

resource profile 'Microsoft.Cdn/profiles@2025-12-01' existing = {
  name: profileName
}

resource endpoint 'Microsoft.Cdn/profiles/afdEndpoints@2025-12-01' existing = {
  parent: profile
  name: endpointName
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
        id: domainId
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
        id: domainId
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
