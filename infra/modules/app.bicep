// A plan and the app on it (Flex Consumption holds one app to a plan), running as the identity of its trust zone.
param location string
param tags object

@description('Not longer than 32: the host tells apps that share a storage account apart by the first 32 characters.')
@minLength(2)
@maxLength(32)
param name string

@minLength(1)
@maxLength(60)
param planName string

param identityId string

@description('Blob container of the deployed package, as a URL.')
param packageUrl string

@description('The trust zone that the app is, or all.')
param zone string

@description('App settings by name.')
param settings object

@description('The zones that a setting is for, by its name; a setting that is not here is for all.')
param zonesOfSettings object

@allowed([
  512
  2048
  4096
])
param instanceMemory int

@description('Instances at most, of each group of functions.')
@minValue(1)
@maxValue(1000)
param instances int

@description('HTTP instances that are always ready; 0 lets the app scale to nothing.')
@minValue(0)
param readyInstances int

@description('Subnet that the app reaches services from; empty for none.')
param subnetId string = ''

@description('The Front Door that alone may call the app; empty lets everyone call it.')
param frontDoorId string = ''

@description('Client id of the registration in Microsoft Entra ID by which people and programs sign in; empty for none.')
param entraClientId string

@description('Tenant of the registration.')
param entraTenantId string

var ownSettings = filter(
  items(settings),
  setting =>
    zone == 'all' || !contains(zonesOfSettings, setting.key) || contains(zonesOfSettings[setting.key], zone)
)

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
  }
}

resource app 'Microsoft.Web/sites@2025-03-01' = {
  name: name
  location: location
  tags: tags
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    publicNetworkAccess: 'Enabled'
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageUrl
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      runtime: {
        name: 'python'
        version: '3.13'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemory
        maximumInstanceCount: instances
        alwaysReady: readyInstances > 0
          ? [
              {
                name: 'http'
                instanceCount: readyInstances
              }
            ]
          : []
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      http20Enabled: true
      appSettings: [
        for setting in ownSettings: {
          name: setting.key
          value: setting.value
        }
      ]
      ipSecurityRestrictionsDefaultAction: empty(frontDoorId) ? 'Allow' : 'Deny'
      ipSecurityRestrictions: empty(frontDoorId)
        ? []
        : [
            {
              name: 'front-door'
              priority: 100
              action: 'Allow'
              tag: 'ServiceTag'
              ipAddress: 'AzureFrontDoor.Backend'
              headers: {
                'x-azure-fdid': [
                  frontDoorId
                ]
              }
            }
          ]
    }
  }
}

// Deployment is by Microsoft Entra identity; passwords of the publishing profile are worth nothing.
resource noPasswords 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: app
  name: 'scm'
  properties: {
    allow: false
  }
}

// Who calls is written into X-MS-CLIENT-PRINCIPAL, which nobody outside can set then. Requests without a token pass too,
// since machines come with function keys and anybody may read CRLs. There are no excludedPaths: they would win nothing,
// and whoever found another spelling of such a path could write the header.
resource signIn 'Microsoft.Web/sites/config@2025-03-01' = if (!empty(entraClientId)) {
  parent: app
  name: 'authsettingsV2'
  properties: {
    platform: {
      enabled: true
      runtimeVersion: '~1'
    }
    globalValidation: {
      requireAuthentication: false
      unauthenticatedClientAction: 'AllowAnonymous'
    }
    httpSettings: {
      requireHttps: true
    }
    identityProviders: {
      azureActiveDirectory: {
        enabled: true
        // Without a secret people sign in by an id token alone, and the app never calls anything as them.
        registration: {
          clientId: entraClientId
          openIdIssuer: '${environment().authentication.loginEndpoint}${entraTenantId}/v2.0'
        }
        validation: {
          allowedAudiences: [
            'api://${entraClientId}'
          ]
        }
      }
    }
    login: {
      tokenStore: {
        enabled: false
      }
    }
  }
}

output name string = app.name
output hostName string = app.properties.defaultHostName
output url string = 'https://${app.properties.defaultHostName}'
